SELECT coalesce(a.month, b.month), coalesce(a.cell, b.cell), a.events, a.cases, b.events, b.cases
FROM statistics.month_cell a FULL JOIN {beside}.month_cell b ON b.month = a.month AND b.cell = a.cell
WHERE a IS DISTINCT FROM b
ORDER BY 1, 2
LIMIT 100
