-- A receipt may stand on the log twice: of equal ones that follow each other the first is told. The agency's own words
-- follow each other, whatever is delivered between them, and so do our receipts.
SELECT agency, cursor, outcome, channel, attempts, first_at, at, status, reason, statement, words
FROM (
    SELECT agency, cursor, outcome, channel, attempts, first_at, coalesce(last_at, logged_at) AS at, logged_at, status,
        reason, statement, words, lag(outcome) OVER before AS outcome_before, lag(reason) OVER before AS reason_before
    FROM ledger_receipt
    WHERE event_id = %(event)s AND source = %(source)s AND subject = %(subject)s
        AND (%(agency)s::text IS NULL OR agency = %(agency)s)
    WINDOW before AS (
        PARTITION BY agency, cursor, outcome IN ('accepted', 'rejected') ORDER BY coalesce(last_at, logged_at), logged_at
    )
) receipt
WHERE outcome IS DISTINCT FROM outcome_before OR reason IS DISTINCT FROM reason_before
ORDER BY agency, cursor, at, logged_at
