-- What a poller remembers of its rows: a view of the topic control.poller.<name>, which may be deleted at any time.
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS known (key TEXT PRIMARY KEY, state BLOB NOT NULL, pass INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS reject (key TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value BLOB NOT NULL);
