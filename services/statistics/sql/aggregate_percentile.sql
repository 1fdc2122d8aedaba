SELECT
    grp, (percentile_disc(%(percentile)s::double precision / 100) WITHIN GROUP (ORDER BY (detail ->> %(field)s)::numeric))::numeric,
    NULL::numeric, count(detail ->> %(field)s)
FROM counted
WHERE detail ->> %(field)s IS NOT NULL
GROUP BY grp
