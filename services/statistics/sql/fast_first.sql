-- The cells of a month whose first events come first, with these times; and how many events of all cells are marked.
SELECT cell, {counted}_first, (sum({counted}_marked) OVER ())::bigint
FROM month_cell
WHERE month = %(month)s AND cell = ANY(%(cells)s) AND {counted} > 0
ORDER BY {counted}_first
FETCH FIRST (%(limit)s) ROWS WITH TIES
