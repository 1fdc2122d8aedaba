SELECT event.source, event.event_id, event.type, subject, division, occurred_at, recorded_at, event.logged_at,
    coalesce(recorded_at, event.logged_at) AS published_at, follows, event.topic, event.partition, event."offset",
    verdict, config, reason, routed_at, replace(event.trace_id::text, '-', '') AS trace_id
FROM ledger_event event
LEFT JOIN ledger_route route ON route.event_id = event.event_id AND route.source = event.source
    AND route.logged_at = event.logged_at AND route.topic = event.topic AND route.partition = event.partition
    AND route."offset" = event."offset" AND verdict <> 'backfilled'
WHERE event.event_id = %(event)s
    AND (%(sources)s::text[] IS NULL OR event.source = ANY(%(sources)s))
ORDER BY event.logged_at, event.topic, event.partition, event."offset"
LIMIT 200
