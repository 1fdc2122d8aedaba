DELETE FROM portal_session WHERE seen_at < %s OR created_at < %s
