INSERT INTO department (id, name, source, key_hash, types) VALUES (%s, %s, %s, %s, %s)
