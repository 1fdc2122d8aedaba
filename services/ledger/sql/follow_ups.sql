WITH told AS (
    SELECT DISTINCT ON (event.source, event.event_id, event.subject)
        event.source, event.event_id, event.subject, event.type, occurred_at, event.logged_at
    FROM ledger_event event
    JOIN ledger_route route ON route.event_id = event.event_id AND route.source = event.source
        AND route.topic = event.topic AND route.partition = event.partition AND route."offset" = event."offset"
        AND route.logged_at = event.logged_at
    WHERE (event.type = ANY(%(types)s) OR follows IS NOT NULL) AND verdict = 'routed'
        AND event.logged_at >= %(since)s AND route.logged_at >= %(since)s
        AND (%(until)s::timestamptz IS NULL OR (event.logged_at < %(until)s AND route.logged_at < %(until)s))
    ORDER BY event.source, event.event_id, event.subject, event.logged_at
), owed AS (
    SELECT DISTINCT told.*, agency
    FROM told
    LEFT JOIN ledger_entitlement entitlement ON entitlement.event_id = told.event_id
        AND entitlement.source = told.source AND entitlement.subject = told.subject
        AND entitlement.logged_at >= %(since)s
)
SELECT owed.event_id AS event, owed.source, owed.subject, type, occurred_at AS time, owed.agency, owed.logged_at,
    CASE WHEN owed.agency IS NULL THEN 'nobody' ELSE coalesce(word.outcome, delivery.outcome, 'underway') END AS state
FROM owed
LEFT JOIN LATERAL (
    SELECT outcome FROM ledger_receipt
    WHERE agency = owed.agency AND event_id = owed.event_id AND source = owed.source AND subject = owed.subject
        AND outcome IN ('accepted', 'rejected')
        AND logged_at >= %(since)s::timestamptz - interval '7 days'
    ORDER BY coalesce(last_at, logged_at) DESC, logged_at DESC LIMIT 1
) word ON true
LEFT JOIN LATERAL (
    SELECT outcome FROM ledger_receipt
    WHERE agency = owed.agency AND event_id = owed.event_id AND source = owed.source AND subject = owed.subject
        AND outcome IN ('delivered', 'parked')
        -- A receipt bears the time of another clock than its event.
        AND logged_at >= %(since)s::timestamptz - interval '7 days'
    ORDER BY coalesce(last_at, logged_at) DESC, logged_at DESC LIMIT 1
) delivery ON true
WHERE NOT %(open)s OR (owed.agency IS NOT NULL AND word.outcome IS DISTINCT FROM 'accepted')
