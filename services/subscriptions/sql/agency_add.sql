INSERT INTO agency (id, name, division, sink, secret)
VALUES (%(id)s, %(name)s, %(division)s, %(sink)s, %(secret)s)
RETURNING id, name, division, sink, secret, state, version
