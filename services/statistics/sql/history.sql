SELECT metric_id, month, exact FROM statistics_history
