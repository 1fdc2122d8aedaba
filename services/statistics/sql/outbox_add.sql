INSERT INTO statistics_outbox (id, type, data) VALUES (%s, %s, %s)
