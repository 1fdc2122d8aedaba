-- Of each case (or each event) the first valid one, where it lies in the period.
first AS (
    SELECT DISTINCT ON (kind, case_id, CASE WHEN {each} THEN identity END) *
    FROM valid
    ORDER BY kind, case_id, CASE WHEN {each} THEN identity END, occurred_at, identity
), then_counted AS (
    SELECT f.* FROM first f JOIN chosen ON chosen.cell = f.cell {part} WHERE f.month BETWEEN %(first)s AND %(last)s
), now_counted AS (
    SELECT f.*
    FROM known f JOIN chosen ON chosen.cell = f.cell {part}
    WHERE f.month BETWEEN %(first)s AND %(last)s AND CASE WHEN {each} THEN NOT f.void ELSE NOT f.aside END
)
