INSERT INTO sign_in (person, last_at) VALUES (%(person)s, %(at)s) ON CONFLICT (person) DO UPDATE SET last_at = excluded.last_at
