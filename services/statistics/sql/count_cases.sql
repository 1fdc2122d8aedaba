SELECT count(*)
FROM (
    SELECT DISTINCT ON (source, case_key) occurred_at, dimensions
    FROM fact
    WHERE type = %(type)s AND occurred_at < %(to)s
    ORDER BY source, case_key, occurred_at, event_id
) AS first_occurrence
WHERE occurred_at >= %(from)s AND dimensions @> %(where)s
