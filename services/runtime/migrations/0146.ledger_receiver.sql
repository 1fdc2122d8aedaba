-- depends: 0145.ledger_parked_subjects
-- Who has been given events of a publisher, and the hour of the newest: the counts of hours are let go of after weeks, this
-- is kept as long as the ledger. Filled with whom the ledger knows.
CREATE TABLE ledger_receiver (
    source text NOT NULL,
    agency text NOT NULL,
    newest timestamptz NOT NULL,
    PRIMARY KEY (source, agency)
) WITH (fillfactor = 70);
INSERT INTO ledger_receiver
SELECT source, agency, max(date_trunc('hour', logged_at, 'UTC')) FROM ledger_entitlement GROUP BY source, agency;
DROP INDEX ledger_hour_entitled_idx;
