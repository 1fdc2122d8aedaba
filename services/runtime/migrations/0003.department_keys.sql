-- depends: 0002.statistics
-- Departments hold up to two live keys, so that one can be changed without a gap; and may be limited by division and rate.
CREATE TABLE department_key (
    id         text PRIMARY KEY,
    department text NOT NULL REFERENCES department,
    digest     text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
INSERT INTO department_key (id, department, digest, created_at)
    SELECT 'key-' || left(key_hash, 12), id, key_hash, created_at FROM department;
ALTER TABLE department DROP COLUMN key_hash;
ALTER TABLE department ADD COLUMN divisions jsonb NOT NULL DEFAULT '{}';
ALTER TABLE department ADD COLUMN client_id text UNIQUE;
ALTER TABLE department ADD COLUMN rate_per_s double precision;
ALTER TABLE department ADD COLUMN burst integer;
ALTER TABLE department ADD COLUMN version integer NOT NULL DEFAULT 1;
