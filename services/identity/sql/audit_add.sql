INSERT INTO audit (person, roles, address, action, object, reason, outcome, fields, detail)
VALUES (%(person)s, %(roles)s, %(address)s, %(action)s, %(object)s, %(reason)s, %(outcome)s, %(fields)s, %(detail)s)
