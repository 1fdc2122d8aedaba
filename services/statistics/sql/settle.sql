CREATE TEMP TABLE fresh ON COMMIT DROP AS
SELECT f.identity, f.month, f.cell, f.kind, f.case_id, f.occurred_at, f.follows
FROM fact f
WHERE f.batch IN (SELECT id FROM batch WHERE NOT settled);
ANALYZE fresh;

-- The events whose corrections are to be looked at: those with a new correction, new ones that were corrected before,
-- and those that new ones correct.
CREATE TEMP TABLE target ON COMMIT DROP AS
SELECT c.target AS id FROM correction c JOIN batch b ON b.id = c.batch WHERE NOT b.settled
UNION
SELECT f.identity FROM fresh f WHERE EXISTS (SELECT FROM correction c WHERE c.target = f.identity)
UNION
SELECT f.follows FROM fresh f WHERE f.follows IS NOT NULL;
ANALYZE target;

CREATE TEMP TABLE affected ON COMMIT DROP AS
SELECT DISTINCT i.kind, i.case_id
FROM (
    SELECT id FROM target
    UNION
    SELECT c.identity FROM correction c JOIN target t ON t.id = c.target
) AS event
JOIN identity i ON i.id = event.id;
ANALYZE affected;

-- Cases with corrections are judged anew, from all their facts. Which of these are corrected:
UPDATE fact f
SET void = judged.void
FROM (
    SELECT
        g.identity, g.kind, g.case_id,
        EXISTS (SELECT FROM correction c WHERE c.target = g.identity)
        OR (
            g.follows IS NOT NULL
            AND g.identity <> (
                SELECT c.identity FROM correction c WHERE c.target = g.follows
                ORDER BY c.recorded_at DESC, c.identity DESC LIMIT 1
            )
        ) AS void
    FROM fact g JOIN affected a USING (kind, case_id)
) AS judged
WHERE f.kind = judged.kind AND f.case_id = judged.case_id AND f.identity = judged.identity AND f.void <> judged.void;

DELETE FROM standing s USING affected a WHERE s.kind = a.kind AND s.case_id = a.case_id;

INSERT INTO standing (kind, case_id, occurred_at, identity, month, cell)
SELECT DISTINCT ON (f.kind, f.case_id) f.kind, f.case_id, f.occurred_at, f.identity, f.month, f.cell
FROM fact f JOIN affected a USING (kind, case_id)
WHERE NOT f.void
ORDER BY f.kind, f.case_id, f.occurred_at, f.identity;

UPDATE fact f
SET aside = f.identity IS DISTINCT FROM s.identity
FROM affected a LEFT JOIN standing s USING (kind, case_id)
WHERE f.kind = a.kind AND f.case_id = a.case_id AND f.aside <> (f.identity IS DISTINCT FROM s.identity);

UPDATE month_state
SET stale = true
WHERE month IN (SELECT f.month FROM fact f JOIN affected a USING (kind, case_id));

DELETE FROM fresh f USING affected a WHERE f.kind = a.kind AND f.case_id = a.case_id;

-- All other cases: the first of their new events against the one that stands.
CREATE TEMP TABLE first ON COMMIT DROP AS
SELECT DISTINCT ON (kind, case_id) kind, case_id, occurred_at, identity, month, cell
FROM fresh
ORDER BY kind, case_id, occurred_at, identity;
ANALYZE first;

CREATE TEMP TABLE displaced ON COMMIT DROP AS
SELECT s.kind, s.case_id, s.identity, s.month
FROM standing s JOIN first n USING (kind, case_id)
WHERE (n.occurred_at, n.identity) < (s.occurred_at, s.identity);

UPDATE fact f
SET aside = true
FROM displaced d
WHERE f.kind = d.kind AND f.case_id = d.case_id AND f.identity = d.identity;

INSERT INTO standing AS s (kind, case_id, occurred_at, identity, month, cell)
SELECT kind, case_id, occurred_at, identity, month, cell FROM first
ON CONFLICT (kind, case_id) DO UPDATE
SET occurred_at = excluded.occurred_at, identity = excluded.identity, month = excluded.month, cell = excluded.cell
WHERE (excluded.occurred_at, excluded.identity) < (s.occurred_at, s.identity);

UPDATE fact f
SET aside = true
FROM fresh n JOIN standing s USING (kind, case_id)
WHERE s.identity <> n.identity AND f.kind = n.kind AND f.case_id = n.case_id AND f.identity = n.identity;

UPDATE month_state
SET stale = true
WHERE month IN (SELECT month FROM fresh UNION SELECT month FROM displaced);

UPDATE batch SET settled = true WHERE NOT settled;
