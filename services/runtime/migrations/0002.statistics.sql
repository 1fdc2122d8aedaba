-- Facts and the offsets they came from commit together; both can be rebuilt from Kafka.
CREATE TABLE fact (
    source      text NOT NULL,
    event_id    text NOT NULL,
    type        text NOT NULL,
    case_key    text NOT NULL,
    occurred_at timestamptz NOT NULL,
    quantity    integer NOT NULL,
    dimensions  jsonb NOT NULL,
    digest      bytea NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    PRIMARY KEY (source, event_id)
);

-- A case counts once, at its first occurrence: the index gives that occurrence.
CREATE INDEX fact_first ON fact (type, source, case_key, occurred_at);
CREATE INDEX fact_time ON fact (type, occurred_at);

CREATE TABLE consumer_offset (
    consumer    text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (consumer, topic, partition)
);
