SELECT event.source, event.event_id, type, subject, division, occurred_at, coalesce(recorded_at, event.logged_at) AS published_at,
    follows, event.topic, event.partition, event."offset", verdict, config, reason
FROM ledger_event event
LEFT JOIN ledger_route route ON route.event_id = event.event_id AND route.source = event.source
    AND route.topic = event.topic AND route.partition = event.partition AND route."offset" = event."offset"
WHERE event.event_id = %(event)s AND (%(source)s::text IS NULL OR event.source = %(source)s)
ORDER BY event.logged_at, event.topic, event.partition, event."offset"
LIMIT 200
