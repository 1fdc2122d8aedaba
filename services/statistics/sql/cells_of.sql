SELECT id, type, source, data FROM cell WHERE type = ANY(%s)
