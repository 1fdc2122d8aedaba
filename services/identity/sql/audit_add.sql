INSERT INTO audit (person, roles, address, action, object, reason, outcome, fields, detail, begun)
VALUES (%(person)s, %(roles)s, %(address)s, %(action)s, %(object)s, %(reason)s, %(outcome)s, %(fields)s, %(detail)s,
        %(begun)s)
RETURNING id
