-- depends: 0071.log_starts
-- Figures of a closed month by two dimensions at once, as they were then: [value, other value, exact, count] each.
CREATE TABLE statistics_crossed (
    month     integer NOT NULL,
    revision  integer NOT NULL,
    metric_id text NOT NULL,
    dimension text NOT NULL,
    other     text NOT NULL,
    figures   jsonb NOT NULL,
    PRIMARY KEY (month, revision, metric_id, dimension, other)
);
