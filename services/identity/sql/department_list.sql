SELECT id, name, source, types, divisions, client_id, rate_per_s, burst, version FROM department ORDER BY id
