INSERT INTO correction (target, identity, recorded_at, log, "offset", batch)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (target, identity) DO NOTHING
