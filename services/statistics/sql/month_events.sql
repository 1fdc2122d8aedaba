SELECT month, coalesce(sum(events) FILTER (WHERE type <> %(delivery)s), 0)::bigint,
    coalesce(sum(events) FILTER (WHERE type = %(delivery)s), 0)::bigint
FROM month_cell JOIN cell ON cell.id = month_cell.cell
GROUP BY month
