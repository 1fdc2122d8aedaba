-- depends: 0053.ledger_identity
-- Who has not acknowledged a follow-up is asked of a few types, or of what says which event it follows.
CREATE INDEX ON ledger_event (type);
CREATE INDEX ON ledger_event (follows) WHERE follows IS NOT NULL;
