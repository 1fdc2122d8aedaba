WITH fresh AS (
    INSERT INTO identity (id, digest, kind, case_id)
    SELECT identity, digest, kind, case_id FROM staging ORDER BY identity
    ON CONFLICT (id) DO NOTHING
    RETURNING id
)
INSERT INTO fact (
    identity, month, cell, kind, case_id, event_id, case_key, occurred_at, recorded_at, follows, marks, detail, log,
    "offset", batch
)
SELECT
    s.identity, s.month, s.cell, s.kind, s.case_id, s.event_id, s.case_key, s.occurred_at, s.recorded_at, s.follows,
    s.marks, s.detail, s.log, s."offset", s.batch
FROM staging s JOIN fresh ON fresh.id = s.identity
