-- Once through the hours: how many from each source to each agency (no hour), and how many in each hour (no source).
SELECT hour, source, agency, what, sum(number)::bigint AS number
FROM ledger_hour
WHERE hour >= %(since)s AND hour < %(until)s
    AND (%(agency)s::text IS NULL OR agency = %(agency)s)
    AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
GROUP BY GROUPING SETS ((source, agency, what), (hour, what))
ORDER BY hour, source, agency, what
