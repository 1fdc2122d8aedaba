WITH cases AS MATERIALIZED (
    SELECT
        began, ended,
        (SELECT data ->> 'department_code' FROM cell WHERE id = began_cell) AS began_at,
        (SELECT data ->> 'department_code' FROM cell WHERE id = ended_cell) AS ended_at
    FROM (
        SELECT
            min(occurred_at) FILTER (WHERE kind = %(accepted)s) AS began,
            min(occurred_at) FILTER (WHERE kind <> %(accepted)s) AS ended,
            min(cell) FILTER (WHERE kind = %(accepted)s) AS began_cell,
            (array_agg(cell ORDER BY occurred_at) FILTER (WHERE kind <> %(accepted)s))[1] AS ended_cell
        FROM standing
        WHERE kind IN (%(accepted)s, %(completed)s, %(withdrawn)s) AND month <= %(month)s
        GROUP BY case_id
    ) AS told
    WHERE ended IS NULL OR ended >= %(from)s
)
SELECT 'opening', began_at, count(*) FROM cases WHERE began < %(from)s GROUP BY 2
UNION ALL
SELECT 'unregistered', ended_at, count(*) FROM cases WHERE began IS NULL AND ended < %(to)s GROUP BY 2
UNION ALL
SELECT 'closing', began_at, count(*) FROM cases WHERE began < %(to)s AND (ended IS NULL OR ended >= %(to)s) GROUP BY 2
UNION ALL
SELECT
    CASE c.kind WHEN %(accepted)s THEN 'accepted' WHEN %(completed)s THEN 'completed' ELSE 'withdrawn' END,
    c.data ->> 'department_code', sum(m.cases)::bigint
FROM month_cell m JOIN cell c ON c.id = m.cell
WHERE m.month = %(month)s AND c.kind IN (%(accepted)s, %(completed)s, %(withdrawn)s)
GROUP BY 1, 2
