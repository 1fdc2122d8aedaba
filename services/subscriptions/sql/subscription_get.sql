SELECT * FROM subscription WHERE id = %s
