INSERT INTO sign_in_failure AS held (subject, failures, last_at) VALUES (%(subject)s, 1, %(at)s)
ON CONFLICT (subject) DO UPDATE
SET failures = CASE WHEN held.last_at < %(forgotten)s THEN 1 ELSE held.failures + 1 END, last_at = excluded.last_at
