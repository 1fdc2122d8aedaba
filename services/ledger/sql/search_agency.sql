WITH picked AS MATERIALIZED (
    SELECT DISTINCT ON (logged_at, topic, partition, "offset")
        logged_at, topic, partition, "offset", source, event_id, type, subject
    FROM ledger_entitlement
    WHERE agency = %(agency)s
        AND logged_at >= %(low)s::timestamptz AND logged_at <= %(high)s::timestamptz
        AND (logged_at, topic, partition, "offset") < (%(high)s::timestamptz, %(topic)s::text, %(partition)s::int, %(offset)s::bigint)
        AND (%(source)s::text IS NULL OR source = %(source)s)
        AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
        AND (%(type)s::text IS NULL OR type = %(type)s)
    ORDER BY logged_at DESC, topic DESC, partition DESC, "offset" DESC
    LIMIT %(limit)s
)
SELECT picked.*, division, occurred_at, recorded_at
FROM picked
LEFT JOIN LATERAL (
    SELECT division, occurred_at, recorded_at FROM ledger_event event
    WHERE event.event_id = picked.event_id AND event.logged_at = picked.logged_at AND event.topic = picked.topic
        AND event.partition = picked.partition AND event."offset" = picked."offset"
        AND event.logged_at >= %(low)s::timestamptz AND event.logged_at <= %(high)s::timestamptz
    LIMIT 1
) event ON true
ORDER BY logged_at DESC, topic DESC, partition DESC, "offset" DESC
