SELECT DISTINCT ON (agency) source, agency, why, subscriptions, logged_at AS routed_at
FROM ledger_entitlement
WHERE event_id = %(event)s AND source = %(source)s AND subject = %(subject)s
    AND (%(agency)s::text IS NULL OR agency = %(agency)s)
ORDER BY agency, logged_at
