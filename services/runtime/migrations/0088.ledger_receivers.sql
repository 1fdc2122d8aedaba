-- depends: 0087.ledger_words
-- Who has got anything of a publisher: one look for each agency.
CREATE INDEX ledger_hour_entitled_idx ON ledger_hour (source, agency) WHERE what = 'entitled';
