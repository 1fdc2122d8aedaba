-- depends: 0051.periods
-- An event's identity is (source, id, subject): facts are counted anew from Kafka under it. Decisions and figures that
-- were taken on record stay as they are.
TRUNCATE statistics.identity, statistics.cell, statistics.fact, statistics.correction, statistics.batch,
    statistics.standing, statistics.month_cell, statistics.month_state, statistics.consumer_offset;
COMMENT ON TABLE statistics.identity IS
    'source, id and subject of every event that is a fact, as a digest, with the digest of its content and its case';
