SELECT topic, partition, began FROM consumer_offset WHERE consumer = %s
