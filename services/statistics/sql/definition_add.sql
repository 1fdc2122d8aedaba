INSERT INTO statistics_definition (metric_id, version, digest, document)
VALUES (%s, %s, %s, %s)
ON CONFLICT (metric_id, version) DO NOTHING
