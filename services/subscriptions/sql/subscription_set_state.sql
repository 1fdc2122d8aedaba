UPDATE subscription
SET state = %(to)s, version = version + 1
WHERE id = %(id)s AND state = %(from)s
RETURNING id, agency, types, filters, basis, scene, scope, method, valid_until, state, version
