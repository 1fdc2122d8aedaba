SELECT c.grp, count(DISTINCT given.value)::numeric, NULL::numeric, count(given.value)
FROM counted c
JOIN cell ON cell.id = c.cell
CROSS JOIN LATERAL (SELECT coalesce(c.detail ->> %(field)s, cell.data ->> %(field)s) AS value) AS given
GROUP BY c.grp
