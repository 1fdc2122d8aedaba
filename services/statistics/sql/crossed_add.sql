INSERT INTO statistics_crossed (month, revision, metric_id, dimension, other, figures)
VALUES (%s, %s, %s, %s, %s, %s)
