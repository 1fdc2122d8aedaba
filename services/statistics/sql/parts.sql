SELECT DISTINCT f.cell, part.said
FROM fact f
CROSS JOIN LATERAL (SELECT jsonb_object_agg(k, f.detail -> k) AS said FROM unnest(%(fields)s::text[]) AS k) AS part
WHERE f.month BETWEEN %(first)s AND %(last)s AND f.kind = ANY(%(kinds)s) AND f.cell = ANY(%(cells)s)
