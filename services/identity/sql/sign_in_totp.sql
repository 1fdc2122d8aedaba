UPDATE sign_in SET totp = %(totp)s, totp_step = %(step)s, recovery = %(recovery)s WHERE person = %(person)s
