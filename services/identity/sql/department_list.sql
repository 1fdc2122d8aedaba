SELECT id, name, source, key_hash, types FROM department ORDER BY id
