-- What became of the events of a page: one row each, in their order.
SELECT route.verdict, entitled.number AS entitled, coalesce(said.delivered, 0) AS delivered,
    coalesce(said.accepted, 0) AS accepted, coalesce(said.rejected, 0) AS rejected, coalesce(said.parked, 0) AS parked
FROM unnest(%(ats)s::timestamptz[], %(topics)s::text[], %(partitions)s::int[], %(offsets)s::bigint[], %(events)s::text[],
    %(sources)s::text[], %(subjects)s::text[])
    WITH ORDINALITY AS given (at, topic, partition, "offset", event_id, source, subject, place)
LEFT JOIN LATERAL (
    SELECT verdict FROM ledger_route route
    WHERE route.event_id = given.event_id AND route.logged_at = given.at AND route.topic = given.topic
        AND route.partition = given.partition AND route."offset" = given."offset"
        AND route.logged_at >= %(oldest)s AND route.logged_at <= %(newest)s AND verdict <> 'backfilled'
    LIMIT 1
) route ON true
CROSS JOIN LATERAL (
    SELECT count(DISTINCT agency) AS number FROM ledger_entitlement entitlement
    WHERE entitlement.event_id = given.event_id AND entitlement.logged_at = given.at
        AND entitlement.topic = given.topic AND entitlement.partition = given.partition
        AND entitlement."offset" = given."offset"
        AND entitlement.logged_at >= %(oldest)s AND entitlement.logged_at <= %(newest)s
        AND (%(agency)s::text IS NULL OR agency = %(agency)s)
) entitled
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE delivered) AS delivered, count(*) FILTER (WHERE word = 'accepted') AS accepted,
        count(*) FILTER (WHERE word = 'rejected') AS rejected, count(*) FILTER (WHERE NOT delivered) AS parked
    FROM (
        SELECT bool_or(outcome <> 'parked') AS delivered,
            (array_agg(outcome ORDER BY coalesce(last_at, logged_at) DESC, logged_at DESC)
                FILTER (WHERE outcome IN ('accepted', 'rejected')))[1] AS word
        FROM ledger_receipt receipt
        WHERE receipt.event_id = given.event_id AND receipt.source = given.source AND receipt.subject = given.subject
            AND (%(agency)s::text IS NULL OR agency = %(agency)s)
        GROUP BY agency
    ) each
) said ON entitled.number > 0
ORDER BY given.place
