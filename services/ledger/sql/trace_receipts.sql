SELECT DISTINCT ON (agency, cursor, outcome, reason)
    agency, cursor, outcome, channel, attempts, first_at, coalesce(last_at, logged_at) AS at, status, reason, statement, words
FROM ledger_receipt
WHERE event_id = %(event)s AND source = %(source)s AND subject = %(subject)s
    AND (%(agency)s::text IS NULL OR agency = %(agency)s)
ORDER BY agency, cursor, outcome, reason, logged_at
