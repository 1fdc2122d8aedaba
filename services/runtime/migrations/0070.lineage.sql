-- depends: 0053.ledger_identity
-- What an explanation asks of a month's cells: how many of their events are marked, and when the first of them was.
ALTER TABLE statistics.month_cell
    ADD COLUMN events_marked bigint NOT NULL DEFAULT 0,
    ADD COLUMN cases_marked  bigint NOT NULL DEFAULT 0,
    ADD COLUMN events_first  timestamptz,
    ADD COLUMN cases_first   timestamptz;
UPDATE statistics.month_state SET stale = true;
CREATE INDEX ON statistics.fact USING brin (occurred_at);
