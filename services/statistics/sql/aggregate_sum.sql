SELECT grp, coalesce(sum((detail ->> %(field)s)::numeric), 0), NULL::numeric, count(detail ->> %(field)s)
FROM counted
GROUP BY grp
