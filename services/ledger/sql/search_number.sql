-- By the beginning of a number: no index knows it, so that the stretch of time is read, newest first, until there are enough.
SELECT logged_at, topic, partition, "offset", source, event_id, type, subject, division, occurred_at, recorded_at
FROM ledger_event event
WHERE event_id IS NOT NULL
    AND logged_at >= %(low)s::timestamptz AND logged_at <= %(high)s::timestamptz
    AND (logged_at, topic, partition, "offset") < (%(high)s::timestamptz, %(topic)s::text, %(partition)s::int, %(offset)s::bigint)
    AND EXISTS (
        SELECT FROM unnest(identifiers) AS number
        WHERE starts_with(translate(number, '第号字()[]', ''), %(number)s::text)
            OR starts_with(split_part(number, '第', 2), %(number)s::text)
    )
    AND (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
    AND (%(type)s::text IS NULL OR type = %(type)s)
    AND (%(agency)s::text IS NULL OR EXISTS (
        SELECT FROM ledger_entitlement entitlement
        WHERE entitlement.event_id = event.event_id AND entitlement.logged_at = event.logged_at
            AND entitlement.topic = event.topic AND entitlement.partition = event.partition
            AND entitlement."offset" = event."offset" AND entitlement.agency = %(agency)s
            AND entitlement.logged_at >= %(low)s::timestamptz AND entitlement.logged_at <= %(high)s::timestamptz
            -- Who was not given all fields can't feel its way through a number that it may not know.
            AND (whole OR %(guarded)s <> 'whole')
    ))
ORDER BY logged_at DESC, topic DESC, partition DESC, "offset" DESC
LIMIT %(limit)s
