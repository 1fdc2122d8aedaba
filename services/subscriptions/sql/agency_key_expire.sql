UPDATE agency_key SET expires_at = now() + %s WHERE id = %s AND agency = %s
