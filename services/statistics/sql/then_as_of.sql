-- The same for what stood at a month's end: of each case the last valid event, unless another type's has ended it.
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
), then_last AS (
    SELECT DISTINCT ON (case_id) * FROM valid WHERE kind = ANY(%(kinds)s)
    ORDER BY case_id, occurred_at DESC, identity DESC
), now_last AS (
    SELECT DISTINCT ON (case_id) * FROM known WHERE kind = ANY(%(kinds)s) AND NOT void
    ORDER BY case_id, occurred_at DESC, identity DESC
), then_counted AS (
    SELECT f.* FROM then_last f JOIN chosen ON chosen.cell = f.cell {part}
    WHERE NOT EXISTS (
        SELECT FROM valid e WHERE e.kind = ANY(%(ended)s) AND e.case_id = f.case_id AND e.occurred_at >= f.occurred_at
    )
), now_counted AS (
    SELECT f.* FROM now_last f JOIN chosen ON chosen.cell = f.cell {part}
    WHERE NOT EXISTS (
        SELECT FROM known e
        WHERE e.kind = ANY(%(ended)s) AND e.case_id = f.case_id AND NOT e.void AND e.occurred_at >= f.occurred_at
    )
), difference AS (
    SELECT 'added' AS change, n.* FROM now_counted n WHERE n.identity NOT IN (SELECT identity FROM then_counted)
    UNION ALL
    SELECT 'removed', t.* FROM then_counted t WHERE t.identity NOT IN (SELECT identity FROM now_counted)
)
SELECT d.change, cell.source, d.event_id, d.case_key, d.occurred_at, o.topic, o.partition, d."offset", d.marks, NOT d.before
FROM difference d JOIN cell ON cell.id = d.cell JOIN consumer_offset o ON o.id = d.log
ORDER BY d.occurred_at, d.identity
LIMIT %(limit)s
