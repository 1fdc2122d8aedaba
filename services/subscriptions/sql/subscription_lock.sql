SELECT * FROM subscription WHERE id = %s FOR UPDATE
