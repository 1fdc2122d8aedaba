SELECT grp, coalesce(sum(legal - actual), 0), coalesce(sum(legal), 0), count(*)
FROM (
    SELECT grp, (detail ->> %(legal)s)::numeric AS legal, (detail ->> %(actual)s)::numeric AS actual FROM counted
) AS given
WHERE legal > 0 AND actual IS NOT NULL
GROUP BY grp
