SELECT person, password IS NOT NULL AS has_password, one_time, totp IS NOT NULL AS has_totp, last_at FROM sign_in
