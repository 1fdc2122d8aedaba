SELECT id, topic, partition FROM consumer_offset WHERE consumer = %s
