-- depends: 0020.subscription_life
-- People of the portal: their roles (三员分立: one person is at most one of system, security and audit administrator,
-- and belongs to no unit then), how they sign in, their sessions, failures that make them wait, and what was done.
DO $$
DECLARE name text;
BEGIN
    SELECT conname INTO STRICT name FROM pg_constraint WHERE conrelid = 'person'::regclass AND contype = 'c';
    EXECUTE format('ALTER TABLE person DROP CONSTRAINT %I', name);
END $$;
ALTER TABLE person ADD COLUMN roles text[] NOT NULL DEFAULT '{}';
ALTER TABLE person ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled'));
ALTER TABLE person ADD CONSTRAINT person_belongs
    CHECK (agency IS NOT NULL OR department IS NOT NULL OR cardinality(roles) > 0);
ALTER TABLE person ADD CONSTRAINT person_roles
    CHECK (roles <@ ARRAY['system', 'security', 'audit', 'statistician']);
ALTER TABLE person ADD CONSTRAINT person_one_administration CHECK (
    ('system' = ANY (roles))::int + ('security' = ANY (roles))::int + ('audit' = ANY (roles))::int <= 1);
ALTER TABLE person ADD CONSTRAINT person_administers_apart CHECK (
    NOT roles && ARRAY['system', 'security', 'audit'] OR (agency IS NULL AND department IS NULL));

CREATE TABLE sign_in (
    person      text PRIMARY KEY REFERENCES person,
    password    text,
    one_time    boolean NOT NULL DEFAULT false,
    expires_at  timestamptz,
    totp        text,
    totp_step   bigint NOT NULL DEFAULT 0,
    recovery    text[] NOT NULL DEFAULT '{}',
    changed_at  timestamptz NOT NULL DEFAULT now(),
    last_at     timestamptz
);
COMMENT ON COLUMN sign_in.password IS 'argon2id; NULL: by OIDC only';
COMMENT ON COLUMN sign_in.totp IS 'sealed with the master key; totp_step is the last step that was used';

CREATE TABLE portal_session (
    digest     text PRIMARY KEY,
    person     text NOT NULL REFERENCES person,
    csrf       text NOT NULL,
    created_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    address    text NOT NULL,
    agent      text NOT NULL,
    method     text NOT NULL CHECK (method IN ('password', 'oidc'))
);
CREATE INDEX portal_session_person ON portal_session (person);

CREATE TABLE sign_in_failure (
    subject  text PRIMARY KEY,
    failures integer NOT NULL,
    last_at  timestamptz NOT NULL
);

CREATE TABLE audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    person   text NOT NULL,
    roles    text[] NOT NULL DEFAULT '{}',
    address  text NOT NULL DEFAULT '',
    action   text NOT NULL,
    object   text NOT NULL,
    reason   text NOT NULL DEFAULT '',
    outcome  text NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'failed', 'refused')),
    fields   text[] NOT NULL DEFAULT '{}',
    detail   jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_person ON audit (person, id);
CREATE INDEX audit_object ON audit (object, id);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % is refused', TG_OP;
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
