-- What a metric counted when a month was closed against what it counts now: the events of the difference. `judged`
-- names, of what was valid at either time, what was counted; only cases are looked at that anything came to since then.
WITH chosen AS (
    SELECT * FROM unnest(%(cells)s::bigint[], %(parts)s::jsonb[], %(groups)s::text[]) AS c(cell, part, grp)
), position AS (
    SELECT o.id AS log, coalesce(p.next, 0) AS next
    FROM consumer_offset o
    LEFT JOIN unnest(%(topics)s::text[], %(partitions)s::integer[], %(offsets)s::bigint[]) AS p(topic, partition, next)
        ON p.topic = o.topic AND p.partition = o.partition
), candidate AS (
    SELECT f.case_id
    FROM fact f JOIN position p ON p.log = f.log
    WHERE f.month <= %(last)s AND f.kind = ANY(%(kinds)s || %(ended)s) AND f."offset" >= p.next
    UNION
    SELECT i.case_id
    FROM correction c
    JOIN position p ON p.log = c.log
    JOIN identity i ON i.id IN (c.target, c.identity)
    WHERE c."offset" >= p.next AND i.kind = ANY(%(kinds)s || %(ended)s)
), known AS MATERIALIZED (
    SELECT f.*, f."offset" < p.next AS before
    FROM fact f JOIN candidate USING (case_id) JOIN position p ON p.log = f.log
    WHERE f.month <= %(last)s AND f.kind = ANY(%(kinds)s || %(ended)s)
), corrected AS (
    SELECT c.* FROM correction c JOIN position p ON p.log = c.log WHERE c."offset" < p.next
), valid AS (
    SELECT k.*
    FROM known k
    WHERE k.before
      AND NOT EXISTS (SELECT FROM corrected c WHERE c.target = k.identity)
      AND (k.follows IS NULL OR k.identity = (
          SELECT c.identity FROM corrected c WHERE c.target = k.follows
          ORDER BY c.recorded_at DESC, c.identity DESC LIMIT 1
      ))
), {judged}, difference AS (
    SELECT 'added' AS change, n.* FROM now_counted n WHERE n.identity NOT IN (SELECT identity FROM then_counted)
    UNION ALL
    SELECT 'removed', t.* FROM then_counted t WHERE t.identity NOT IN (SELECT identity FROM now_counted)
)
SELECT d.change, cell.source, d.event_id, d.case_key, d.occurred_at, o.topic, o.partition, d."offset", d.marks, NOT d.before
FROM difference d JOIN cell ON cell.id = d.cell JOIN consumer_offset o ON o.id = d.log
ORDER BY d.occurred_at, d.identity
LIMIT %(limit)s
