SELECT cell, sum({counted})::bigint
FROM month_cell
WHERE month BETWEEN %(first)s AND %(last)s AND cell = ANY(%(cells)s)
GROUP BY cell
