INSERT INTO consumer_offset (consumer, topic, partition, next_offset, began)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (consumer, topic, partition) DO NOTHING
