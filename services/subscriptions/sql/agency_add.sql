INSERT INTO agency (id, name, division, sink, delivery, verified_at)
VALUES (%(id)s, %(name)s, %(division)s, %(sink)s, %(delivery)s, CASE WHEN %(verified)s THEN now() END)
RETURNING id, name, division, sink, state, version, delivery, verified_at
