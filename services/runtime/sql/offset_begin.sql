INSERT INTO consumer_offset (consumer, topic, partition, next_offset)
VALUES (%(consumer)s, %(topic)s, %(partition)s, %(next)s)
ON CONFLICT (consumer, topic, partition) DO NOTHING
