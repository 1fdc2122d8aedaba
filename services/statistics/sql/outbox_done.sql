DELETE FROM statistics_outbox WHERE id = %s
