SELECT grp, coalesce(sum(value), 0), NULL::numeric, count(value)
FROM (
    SELECT DISTINCT ON (grp, said) grp, value
    FROM (
        SELECT
            c.grp, coalesce(c.detail ->> %(once_per)s, cell.data ->> %(once_per)s) AS said,
            (c.detail ->> %(field)s)::numeric AS value, c.occurred_at, c.identity
        FROM counted c JOIN cell ON cell.id = c.cell
    ) AS given
    WHERE said IS NOT NULL AND value IS NOT NULL
    ORDER BY grp, said, occurred_at DESC, identity DESC
) AS last_said
GROUP BY grp
