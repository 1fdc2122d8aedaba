SELECT hour, what, sum(number)::bigint AS number
FROM ledger_hour
WHERE agency = coalesce(%(agency)s::text, '') AND hour >= %(since)s AND hour < %(until)s
    AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
GROUP BY hour, what
ORDER BY hour, what
