-- depends: 0070.lineage
-- From which offset on the facts of a log are here: its beginning when it was first counted. Kept with each decision
-- too, so that it is known whether the facts of a closed month can still be counted from the log.
ALTER TABLE statistics.consumer_offset ADD COLUMN began bigint NOT NULL DEFAULT 0;
ALTER TABLE statistics_decision ADD COLUMN starts jsonb NOT NULL DEFAULT '{}';
