SELECT id, type, data, added_at FROM statistics_outbox ORDER BY added_at, id
