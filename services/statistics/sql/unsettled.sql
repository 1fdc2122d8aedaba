SELECT (SELECT count(*) FROM batch WHERE NOT settled), (SELECT count(*) FROM month_state WHERE stale)
