-- depends: 0003.department_keys
-- People who apply for and decide on grants; what a grant says besides its legal part; on whose behalf a decision was entered.
CREATE TABLE person (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    agency     text REFERENCES agency,
    department text REFERENCES department,
    approves   text[] NOT NULL DEFAULT '{}',
    key_digest text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (agency IS NOT NULL OR department IS NOT NULL)
);
ALTER TABLE subscription ADD COLUMN valid_from timestamptz;
ALTER TABLE subscription ADD COLUMN backfill_from timestamptz;
ALTER TABLE subscription ADD COLUMN fields jsonb;
ALTER TABLE subscription ADD COLUMN divisions text[] NOT NULL DEFAULT '{}';
ALTER TABLE subscription ADD COLUMN forward_to text[] NOT NULL DEFAULT '{}';
ALTER TABLE subscription ADD COLUMN replaces text REFERENCES subscription;
ALTER TABLE subscription ADD COLUMN applicant text REFERENCES person;
ALTER TABLE subscription ADD COLUMN approver text REFERENCES person;
ALTER TABLE decision ADD COLUMN entered_by text NOT NULL DEFAULT 'administrator';
