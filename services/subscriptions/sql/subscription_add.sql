INSERT INTO subscription (id, agency, types, filters, basis, scene, scope, method, valid_until, state)
VALUES (%(id)s, %(agency)s, %(types)s, %(filters)s, %(basis)s, %(scene)s, %(scope)s, %(method)s, %(valid_until)s,
        'active')
RETURNING id, agency, types, filters, basis, scene, scope, method, valid_until, state, version
