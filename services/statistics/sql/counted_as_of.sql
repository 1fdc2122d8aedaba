SELECT f.identity, f.event_id, f.case_id, f.case_key, f.month, f.cell, f.occurred_at, f.detail, f.marks, f.log,
    f."offset", chosen.grp
FROM (
    SELECT DISTINCT ON (g.case_id) g.*
    FROM fact g
    WHERE g.month <= %(last)s AND g.kind = ANY(%(kinds)s) AND NOT g.void
    ORDER BY g.case_id, g.occurred_at DESC, g.identity DESC
) AS f JOIN chosen ON chosen.cell = f.cell {part}
WHERE NOT EXISTS (
    SELECT FROM fact e
    WHERE e.kind = ANY(%(ended)s) AND e.case_id = f.case_id AND e.month <= %(last)s AND NOT e.void
      AND e.occurred_at >= f.occurred_at
)
