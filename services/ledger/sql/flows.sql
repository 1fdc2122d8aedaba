SELECT source, agency, what, sum(number)::bigint AS number
FROM ledger_hour
WHERE hour >= %(since)s AND hour < %(until)s
    AND (%(agency)s::text IS NULL OR agency = %(agency)s)
    AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
GROUP BY source, agency, what
ORDER BY source, agency, what
