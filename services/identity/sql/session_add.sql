INSERT INTO portal_session (digest, person, csrf, created_at, seen_at, address, agent, method)
VALUES (%(digest)s, %(person)s, %(csrf)s, %(created_at)s, %(seen_at)s, %(address)s, %(agent)s, %(method)s)
