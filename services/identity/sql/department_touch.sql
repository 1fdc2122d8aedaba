UPDATE department SET version = version + 1 WHERE id = %s
RETURNING id, name, source, types, divisions, client_id, rate_per_s, burst, version
