SELECT cell.source, f.event_id, f.case_key, f.occurred_at, o.topic, o.partition, f."offset", f.marks
FROM (
    SELECT *
    FROM fact
    WHERE month = %(month)s AND kind = ANY(%(kinds)s) AND NOT {skipped}
      AND cell = ANY(%(cells)s) AND occurred_at <= %(last)s
    ORDER BY occurred_at, identity
    LIMIT %(limit)s
) AS f
JOIN cell ON cell.id = f.cell
JOIN consumer_offset o ON o.id = f.log
ORDER BY f.occurred_at, f.identity
