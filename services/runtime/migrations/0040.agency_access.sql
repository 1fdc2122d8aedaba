-- depends: 0003.department_keys
-- How an agency takes its feed: by which channel, with which keys of its own (digests only), and what its signed
-- receipts are verified with (a public key, or a sealed secret).
CREATE TABLE agency_access (
    agency  text PRIMARY KEY REFERENCES agency,
    channel text NOT NULL DEFAULT 'webhook' CHECK (channel IN ('webhook', 'pull', 'kafka', 'table')),
    ack_key text,
    version integer NOT NULL DEFAULT 1
);
CREATE TABLE access_key (
    id         text PRIMARY KEY,
    agency     text NOT NULL REFERENCES agency,
    digest     text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
