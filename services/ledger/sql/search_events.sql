SELECT logged_at, topic, partition, "offset", source, event_id, type, subject, division, occurred_at, recorded_at
FROM ledger_event
WHERE event_id IS NOT NULL
    AND logged_at >= %(low)s::timestamptz AND logged_at <= %(high)s::timestamptz
    AND (logged_at, topic, partition, "offset") < (%(high)s::timestamptz, %(topic)s::text, %(partition)s::int, %(offset)s::bigint)
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
    AND (%(type)s::text IS NULL OR type = %(type)s)
ORDER BY logged_at DESC, topic DESC, partition DESC, "offset" DESC
LIMIT %(limit)s
