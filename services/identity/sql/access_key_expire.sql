UPDATE access_key SET expires_at = least(expires_at, now() + %s) WHERE id = %s AND agency = %s
