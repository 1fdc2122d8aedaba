SELECT month, sum(events)::bigint FROM month_cell GROUP BY month
