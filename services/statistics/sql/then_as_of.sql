-- What stood at the month's end: of each case the last valid event, unless another type's has ended it.
then_last AS (
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
)
