DELETE FROM portal_session WHERE person = %s AND digest <> %s RETURNING digest
