SELECT event.source, event.event_id, type, event.subject, division, occurred_at,
    coalesce(recorded_at, event.logged_at) AS published_at
FROM ledger_entitlement entitlement
JOIN ledger_event event ON event.event_id = entitlement.event_id AND event.source = entitlement.source
    AND event.subject = entitlement.subject AND event.logged_at = entitlement.logged_at
WHERE entitlement.agency = %(agency)s
    AND (%(event)s::text IS NULL OR event.event_id = %(event)s)
    AND (%(subject)s::text IS NULL OR event.subject = %(subject)s)
    AND (%(identifier)s::text IS NULL OR identifiers @> ARRAY[%(identifier)s::text])
    AND (%(source)s::text IS NULL OR event.source = %(source)s)
    AND (%(type)s::text IS NULL OR type = %(type)s)
    AND (%(from)s::timestamptz IS NULL OR entitlement.logged_at >= %(from)s)
    AND (%(to)s::timestamptz IS NULL OR entitlement.logged_at < %(to)s)
ORDER BY entitlement.logged_at DESC
LIMIT %(limit)s
