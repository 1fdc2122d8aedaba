SELECT
    cell.source, c.event_id, c.case_key, c.occurred_at, o.topic, o.partition, c."offset", c.marks,
    (SELECT count(*) FROM counted WHERE marks IS NOT NULL)
FROM (SELECT * FROM counted ORDER BY occurred_at, identity LIMIT %(limit)s) AS c
JOIN cell ON cell.id = c.cell
JOIN consumer_offset o ON o.id = c.log
ORDER BY c.occurred_at, c.identity
