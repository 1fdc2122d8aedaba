INSERT INTO fact
SELECT DISTINCT ON (source, event_id) *
FROM staging
ORDER BY source, event_id, topic, partition, "offset"
ON CONFLICT (source, event_id) DO NOTHING
