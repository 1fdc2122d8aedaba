UPDATE agency
SET sink = coalesce(%(sink)s, sink), state = coalesce(%(state)s, state), version = version + 1
WHERE id = %(id)s
RETURNING id, name, division, sink, secret, state, version
