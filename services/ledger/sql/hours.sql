SELECT hour, what, sum(number)::bigint AS number
FROM ledger_hour
WHERE hour >= %(since)s AND hour < %(until)s
    AND (%(agency)s::text IS NULL OR agency = %(agency)s)
    AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
GROUP BY hour, what
ORDER BY hour, what
