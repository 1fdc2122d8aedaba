SELECT id, digest, created_at, expires_at FROM access_key
WHERE agency = %s AND (expires_at IS NULL OR expires_at > now()) ORDER BY created_at, id
