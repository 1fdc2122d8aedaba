DELETE FROM consumer_offset WHERE consumer = %s
