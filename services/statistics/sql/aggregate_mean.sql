SELECT grp, coalesce(sum((detail ->> %(field)s)::numeric), 0), count(detail ->> %(field)s)::numeric,
    count(detail ->> %(field)s)
FROM counted
GROUP BY grp
