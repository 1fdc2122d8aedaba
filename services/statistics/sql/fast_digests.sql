SELECT month, cell, {counted}_digest
FROM month_cell
WHERE month BETWEEN %(first)s AND %(last)s AND cell = ANY(%(cells)s) AND {counted} > 0
