INSERT INTO sign_in (person, password, one_time, expires_at) VALUES (%(person)s, %(password)s, %(one_time)s, %(expires_at)s)
ON CONFLICT (person) DO UPDATE
SET password = excluded.password, one_time = excluded.one_time, expires_at = excluded.expires_at, changed_at = now()
