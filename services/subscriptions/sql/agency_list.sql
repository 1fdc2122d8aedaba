SELECT id, name, division, sink, state, version, delivery, verified_at FROM agency ORDER BY id
