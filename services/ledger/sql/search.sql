SELECT source, event_id, type, subject, division, occurred_at, coalesce(recorded_at, logged_at) AS published_at
FROM ledger_event
WHERE event_id IS NOT NULL
    AND (%(event)s::text IS NULL OR event_id = %(event)s)
    AND (%(subject)s::text IS NULL OR subject = %(subject)s)
    AND (%(identifier)s::text IS NULL OR identifiers @> ARRAY[%(identifier)s::text])
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(type)s::text IS NULL OR type = %(type)s)
    AND (%(from)s::timestamptz IS NULL OR logged_at >= %(from)s)
    AND (%(to)s::timestamptz IS NULL OR logged_at < %(to)s)
ORDER BY logged_at DESC
LIMIT %(limit)s
