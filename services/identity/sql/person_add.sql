INSERT INTO person (id, name, agency, department, approves, roles, state, key_digest)
VALUES (%(id)s, %(name)s, %(agency)s, %(department)s, %(approves)s, %(roles)s, %(state)s, %(digest)s)
