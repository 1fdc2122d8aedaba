SELECT agency FROM access_key WHERE digest = %s AND (expires_at IS NULL OR expires_at > now())
