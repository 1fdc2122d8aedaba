-- Configuration and people's decisions: the only things that can't be rebuilt from Kafka.
CREATE TABLE department (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    source     text NOT NULL UNIQUE,
    key_hash   text NOT NULL UNIQUE,
    types      text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE agency (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    division   text NOT NULL,
    sink       text NOT NULL,
    secret     text NOT NULL,
    state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    version    integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE subscription (
    id          text PRIMARY KEY,
    agency      text NOT NULL REFERENCES agency,
    types       text[] NOT NULL,
    filters     jsonb NOT NULL,
    basis       text NOT NULL,
    scene       text NOT NULL,
    scope       text NOT NULL,
    method      text NOT NULL,
    valid_until timestamptz,
    state       text NOT NULL
        CHECK (state IN ('draft', 'submitted', 'approved', 'active', 'suspended', 'expired', 'terminated')),
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Every version of a grant as it stood, and who decided what and why: append-only.
CREATE TABLE subscription_version (
    subscription text NOT NULL REFERENCES subscription,
    version      integer NOT NULL,
    document     jsonb NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscription, version)
);

CREATE TABLE decision (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL,
    subject    text NOT NULL,
    version    integer NOT NULL,
    action     text NOT NULL,
    decided_by text NOT NULL,
    reason     text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now()
);

-- Changes on their way to the control topics; a row is deleted once Kafka has acknowledged it.
CREATE TABLE control_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text NOT NULL CHECK (topic IN ('subscriptions', 'identities')),
    key        text NOT NULL,
    value      jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
