UPDATE portal_session SET seen_at = greatest(seen_at, %s) WHERE digest = %s
