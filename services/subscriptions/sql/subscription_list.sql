SELECT id, agency, types, filters, basis, scene, scope, method, valid_until, state, version
FROM subscription
ORDER BY created_at, id
