INSERT INTO statistics_history (metric_id, month, exact, source, imported_by)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (metric_id, month) DO UPDATE
SET exact = excluded.exact, source = excluded.source, imported_by = excluded.imported_by, imported_at = now()
