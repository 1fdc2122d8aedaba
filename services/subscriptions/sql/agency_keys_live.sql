SELECT agency, id, kind, sealed, public, created_at, expires_at FROM agency_key
WHERE expires_at IS NULL OR expires_at > now() ORDER BY created_at, id
