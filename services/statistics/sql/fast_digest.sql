-- One digest over the cells' own, in the order of months and cells: as lineage.events_digest makes it of rows.
SELECT sha256(coalesce(
    string_agg(convert_to(month || ' ' || cell || ' ', 'UTF8') || {counted}_digest, ''::bytea ORDER BY month, cell), ''
))
FROM month_cell
WHERE month BETWEEN %(first)s AND %(last)s AND cell = ANY(%(cells)s) AND {counted} > 0
