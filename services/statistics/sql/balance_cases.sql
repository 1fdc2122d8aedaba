SELECT
    f.case_key,
    (SELECT data ->> 'department_code' FROM cell WHERE id = told.began_cell),
    (SELECT data ->> 'department_code' FROM cell WHERE id = told.ended_cell),
    told.endings
FROM (
    SELECT
        case_id,
        min(cell) FILTER (WHERE kind = %(accepted)s) AS began_cell,
        (array_agg(cell ORDER BY occurred_at) FILTER (WHERE kind <> %(accepted)s))[1] AS ended_cell,
        min(occurred_at) FILTER (WHERE kind = %(accepted)s) AS began,
        min(occurred_at) FILTER (WHERE kind <> %(accepted)s) AS ended,
        count(*) FILTER (WHERE kind <> %(accepted)s) AS endings
    FROM standing
    WHERE kind IN (%(accepted)s, %(completed)s, %(withdrawn)s) AND month <= %(month)s
    GROUP BY case_id
    HAVING bool_or(month = %(month)s)
) AS told
CROSS JOIN LATERAL (
    SELECT case_key FROM fact
    WHERE kind IN (%(accepted)s, %(completed)s, %(withdrawn)s) AND case_id = told.case_id LIMIT 1
) AS f
WHERE told.endings > 1 OR (told.began IS NOT NULL AND told.endings > 0 AND (
    told.ended < told.began
    OR (SELECT data ->> 'department_code' FROM cell WHERE id = told.began_cell)
        IS DISTINCT FROM (SELECT data ->> 'department_code' FROM cell WHERE id = told.ended_cell)
))
ORDER BY f.case_key
