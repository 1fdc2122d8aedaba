-- depends: 0090.portal
-- An act is written down before it is done, and how it ended in a line of its own that names the first.
ALTER TABLE audit ADD COLUMN begun bigint REFERENCES audit;
ALTER TABLE audit DROP CONSTRAINT audit_outcome_check;
ALTER TABLE audit ADD CONSTRAINT audit_outcome_check CHECK (outcome IN ('begun', 'done', 'failed', 'refused'));
CREATE UNIQUE INDEX audit_begun ON audit (begun) WHERE begun IS NOT NULL;
