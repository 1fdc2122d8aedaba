INSERT INTO person (id, name, agency, department, approves, key_digest)
VALUES (%(id)s, %(name)s, %(agency)s, %(department)s, %(approves)s, %(digest)s)
