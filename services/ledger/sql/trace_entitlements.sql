SELECT DISTINCT ON (agency) source, agency, why, subscriptions, whole, routed_at
FROM ledger_entitlement
WHERE event_id = %(event)s AND source = %(source)s AND subject = %(subject)s
    AND logged_at >= %(oldest)s AND logged_at <= %(newest)s
    AND (%(agency)s::text IS NULL OR agency = %(agency)s)
ORDER BY agency, routed_at NULLS FIRST, logged_at
