-- depends: 0003.department_keys
-- How an agency wants its events: signing keys (two live at most of a kind), its own delivery settings, proof that its
-- receiver answered a signed challenge, and the results of receiver checks.
CREATE TABLE agency_key (
    id         text PRIMARY KEY,
    agency     text NOT NULL REFERENCES agency,
    kind       text NOT NULL CHECK (kind IN ('hmac', 'ed25519')),
    sealed     text NOT NULL,
    public     text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
INSERT INTO agency_key (id, agency, kind, sealed, created_at)
    SELECT 'sec-' || id, id, 'hmac', secret, created_at FROM agency;
ALTER TABLE agency DROP COLUMN secret;
ALTER TABLE agency ADD COLUMN delivery jsonb NOT NULL DEFAULT '{}';
ALTER TABLE agency ADD COLUMN verified_at timestamptz;
UPDATE agency SET verified_at = created_at;

CREATE TABLE agency_evidence (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agency      text NOT NULL REFERENCES agency,
    digest      text NOT NULL,
    passed      boolean NOT NULL,
    document    jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (agency, digest)
);
