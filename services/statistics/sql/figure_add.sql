INSERT INTO statistics_figure (month, revision, metric_id, dimension, value, version, exact, count, events_digest)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
