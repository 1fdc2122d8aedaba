SELECT id, name, division, sink, secret, state, version FROM agency ORDER BY id
