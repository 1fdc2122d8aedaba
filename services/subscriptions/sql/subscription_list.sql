SELECT * FROM subscription ORDER BY created_at, id
