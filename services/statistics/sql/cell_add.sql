INSERT INTO cell (id, kind, type, source, data) VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING
