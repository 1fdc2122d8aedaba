-- By an id, a business key or a number: few rows, which are found before they are sorted.
WITH found AS MATERIALIZED (
    SELECT logged_at, topic, partition, "offset", source, event_id, type, subject, division, occurred_at, recorded_at,
        identifiers
    FROM ledger_event
    WHERE event_id IS NOT NULL
        AND logged_at >= %(low)s::timestamptz AND logged_at <= %(high)s::timestamptz
        AND (logged_at, topic, partition, "offset") < (%(high)s::timestamptz, %(topic)s::text, %(partition)s::int, %(offset)s::bigint)
        AND (%(event)s::text IS NULL OR event_id = %(event)s)
        AND (%(subject)s::text IS NULL OR subject = %(subject)s)
        AND (%(identifier)s::text IS NULL OR identifiers @> ARRAY[%(identifier)s::text]
            OR (%(guarded)s <> 'none' AND guarded @> ARRAY[%(identifier)s::text]))
        AND (%(source)s::text IS NULL OR source = %(source)s)
        AND (%(sources)s::text[] IS NULL OR source = ANY(%(sources)s))
        AND (%(type)s::text IS NULL OR type = %(type)s)
)
SELECT logged_at, topic, partition, "offset", source, event_id, type, subject, division, occurred_at, recorded_at
FROM found
WHERE %(agency)s::text IS NULL OR EXISTS (
    SELECT FROM ledger_entitlement entitlement
    WHERE entitlement.event_id = found.event_id AND entitlement.logged_at = found.logged_at
        AND entitlement.topic = found.topic AND entitlement.partition = found.partition
        AND entitlement."offset" = found."offset" AND entitlement.agency = %(agency)s
        AND entitlement.logged_at >= %(low)s::timestamptz AND entitlement.logged_at <= %(high)s::timestamptz
        -- Who was not given all fields does not find an event by what it may not know.
        AND (whole OR %(guarded)s <> 'whole' OR %(identifier)s::text IS NULL
            OR found.identifiers @> ARRAY[%(identifier)s::text])
)
ORDER BY logged_at DESC, topic DESC, partition DESC, "offset" DESC
LIMIT %(limit)s
