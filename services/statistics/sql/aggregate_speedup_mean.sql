SELECT grp, coalesce(sum((legal - actual) / legal), 0), count(*)::numeric, count(*)
FROM (
    SELECT grp, (detail ->> %(legal)s)::numeric(40, 20) AS legal, (detail ->> %(actual)s)::numeric AS actual FROM counted
) AS given
WHERE legal > 0 AND actual IS NOT NULL
GROUP BY grp
