-- One look into the index of agency and time for each agency: what is old is never read.
SELECT found.source, wanted.agency, sum(routed)::bigint AS routed, sum(delivered)::bigint AS delivered,
    sum(parked)::bigint AS parked
FROM unnest(%(agencies)s::text[]) AS wanted (agency)
CROSS JOIN LATERAL (
    SELECT source, count(*) AS routed, 0 AS delivered, 0 AS parked
    FROM ledger_entitlement entitlement
    WHERE entitlement.agency = wanted.agency AND logged_at >= %(since)s
    GROUP BY source
    UNION ALL
    SELECT source, 0, count(*) FILTER (WHERE outcome = 'delivered'), count(*) FILTER (WHERE outcome = 'parked')
    FROM ledger_receipt receipt
    WHERE receipt.agency = wanted.agency AND logged_at >= %(since)s
    GROUP BY source
) found
GROUP BY found.source, wanted.agency
ORDER BY found.source, wanted.agency
