-- depends: 0040.agency_access
-- The ledger: a view of the log that can be rebuilt from Kafka. Rows are only ever added, together with the offsets that
-- they came from; a month is one partition of each table, so that retention is the dropping of partitions.
CREATE TABLE ledger_event (
    logged_at   timestamptz NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    source      text,
    event_id    text,
    type        text,
    subject     text,
    division    text,
    occurred_at timestamptz,
    recorded_at timestamptz,
    follows     text,
    identifiers text[] NOT NULL
) PARTITION BY RANGE (logged_at);
CREATE INDEX ON ledger_event (event_id);
CREATE INDEX ON ledger_event (subject);
CREATE INDEX ON ledger_event (source, logged_at);
CREATE INDEX ON ledger_event (logged_at);
CREATE INDEX ON ledger_event USING gin (identifiers);

CREATE TABLE ledger_route (
    logged_at timestamptz NOT NULL,
    topic     text NOT NULL,
    partition integer NOT NULL,
    "offset"  bigint NOT NULL,
    source    text,
    event_id  text,
    verdict   text NOT NULL,
    config    bigint,
    reason    text,
    entitled  integer NOT NULL
) PARTITION BY RANGE (logged_at);
CREATE INDEX ON ledger_route (event_id);

CREATE TABLE ledger_entitlement (
    logged_at     timestamptz NOT NULL,
    agency        text NOT NULL,
    source        text NOT NULL,
    event_id      text NOT NULL,
    why           text NOT NULL,
    subscriptions jsonb NOT NULL
) PARTITION BY RANGE (logged_at);
CREATE INDEX ON ledger_entitlement (event_id);
CREATE INDEX ON ledger_entitlement (agency, logged_at);

CREATE TABLE ledger_receipt (
    logged_at timestamptz NOT NULL,
    agency    text NOT NULL,
    cursor    bigint NOT NULL,
    source    text NOT NULL,
    event_id  text NOT NULL,
    outcome   text NOT NULL,
    channel   text NOT NULL,
    attempts  integer NOT NULL,
    first_at  timestamptz,
    last_at   timestamptz,
    status    integer,
    reason    text,
    digest    text,
    statement text
) PARTITION BY RANGE (logged_at);
CREATE INDEX ON ledger_receipt (event_id);
CREATE INDEX ON ledger_receipt (agency, logged_at);

CREATE TABLE ledger_statement (
    logged_at   timestamptz NOT NULL,
    agency      text NOT NULL,
    id          text NOT NULL,
    "timestamp" text NOT NULL,
    signature   text NOT NULL,
    verified_by text NOT NULL,
    body        text NOT NULL
) PARTITION BY RANGE (logged_at);
CREATE INDEX ON ledger_statement (agency, id);

-- What bears no sensible time.
CREATE TABLE ledger_event_rest PARTITION OF ledger_event DEFAULT;
CREATE TABLE ledger_route_rest PARTITION OF ledger_route DEFAULT;
CREATE TABLE ledger_entitlement_rest PARTITION OF ledger_entitlement DEFAULT;
CREATE TABLE ledger_receipt_rest PARTITION OF ledger_receipt DEFAULT;
CREATE TABLE ledger_statement_rest PARTITION OF ledger_statement DEFAULT;

-- Makes the partitions of a month (UTC) that are missing; several may ask at once.
CREATE FUNCTION ledger_month(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('hongyan.ledger_month'));
    FOREACH name IN ARRAY ARRAY['event', 'route', 'entitlement', 'receipt', 'statement'] LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS ledger_%s_%s PARTITION OF ledger_%s FOR VALUES FROM (%L) TO (%L)',
            name, to_char(month, 'YYYYMM'), name,
            month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month')::timestamp AT TIME ZONE 'UTC'
        );
    END LOOP;
END $$;

-- Drops the months that ended before a time, and returns the names of the partitions.
CREATE FUNCTION ledger_trim(before timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    FOR found IN
        SELECT child.relname FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
        WHERE parent.relname LIKE 'ledger\_%' AND child.relkind = 'r' AND child.relname ~ '_[0-9]{6}$'
        AND to_date(right(child.relname, 6), 'YYYYMM') + interval '1 month' <= before AT TIME ZONE 'UTC'
    LOOP
        EXECUTE format('DROP TABLE %I', found);
        RETURN NEXT found;
    END LOOP;
END $$;
