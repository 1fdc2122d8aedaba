UPDATE agency
SET sink = coalesce(%(sink)s, sink), state = coalesce(%(state)s, state), delivery = coalesce(%(delivery)s, delivery),
    verified_at = CASE WHEN %(verified)s THEN now() ELSE verified_at END, version = version + 1
WHERE id = %(id)s
RETURNING id, name, division, sink, state, version, delivery, verified_at
