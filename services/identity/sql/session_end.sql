DELETE FROM portal_session WHERE digest = ANY (%s)
