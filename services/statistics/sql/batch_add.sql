INSERT INTO batch (months) VALUES (%(months)s) RETURNING id
