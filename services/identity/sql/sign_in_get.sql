SELECT person, password, one_time, expires_at, totp, totp_step, recovery, changed_at, last_at
FROM sign_in WHERE person = %s
