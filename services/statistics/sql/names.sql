SELECT DISTINCT ON (pair.code) pair.code, pair.name
FROM cell
CROSS JOIN LATERAL (VALUES
    (data ->> 'department_code', data ->> 'department_name'),
    (data ->> 'owner_code', data ->> 'owner_name'),
    (data ->> 'organiser_code', data ->> 'organiser_name'),
    (data ->> 'reviewer_code', data ->> 'reviewer_name')
) AS pair(code, name)
LEFT JOIN LATERAL (SELECT max(month) AS last FROM month_cell m WHERE m.cell = cell.id) AS seen ON true
WHERE pair.code IS NOT NULL AND pair.name IS NOT NULL
ORDER BY pair.code, seen.last DESC NULLS LAST, pair.name
