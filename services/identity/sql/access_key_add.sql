INSERT INTO access_key (id, agency, digest) VALUES (%s, %s, %s)
