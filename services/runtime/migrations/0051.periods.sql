-- depends: 0050.facts
-- People's decisions about statistics: never rebuilt, never changed, only added to.
CREATE TABLE statistics_definition (
    metric_id text NOT NULL,
    version   integer NOT NULL,
    digest    text NOT NULL,
    document  text NOT NULL,
    first_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (metric_id, version)
);

-- A month that was declared provisional, closed (revision 1) or restated (2 and on): by whom, why, over which refusals.
CREATE TABLE statistics_decision (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    month      integer NOT NULL,
    revision   integer NOT NULL,
    state      text NOT NULL CHECK (state IN ('provisional', 'closed', 'restated')),
    decided_by text NOT NULL,
    reason     text NOT NULL,
    override   text,
    refusals   jsonb NOT NULL DEFAULT '[]',
    positions  jsonb NOT NULL DEFAULT '{}',
    digest     text,
    decided_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (month, revision)
);

-- Figures as they were when a month was closed or restated. An empty dimension is the whole figure.
CREATE TABLE statistics_figure (
    month         integer NOT NULL,
    revision      integer NOT NULL,
    metric_id     text NOT NULL,
    dimension     text NOT NULL DEFAULT '',
    value         text NOT NULL DEFAULT '',
    version       integer NOT NULL,
    exact         text,
    count         bigint NOT NULL,
    events_digest text,
    PRIMARY KEY (month, revision, metric_id, dimension, value)
);

-- Published aggregates of months that have no events here.
CREATE TABLE statistics_history (
    metric_id   text NOT NULL,
    month       integer NOT NULL,
    exact       text NOT NULL,
    source      text NOT NULL,
    imported_by text NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (metric_id, month)
);

-- From this month on a department is reported as this unit: it was merged, or has another code.
CREATE TABLE statistics_department (
    code       text NOT NULL,
    valid_from integer NOT NULL,
    unit_code  text NOT NULL,
    unit_name  text NOT NULL,
    decided_by text NOT NULL,
    reason     text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (code, valid_from)
);

-- Events about closed months on their way to Kafka; a row is deleted once its event is acknowledged.
CREATE TABLE statistics_outbox (
    id       text PRIMARY KEY,
    type     text NOT NULL,
    data     jsonb NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
);
