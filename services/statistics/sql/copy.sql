COPY staging (source, event_id, type, case_key, occurred_at, quantity, dimensions, digest, topic, partition, "offset")
FROM STDIN
