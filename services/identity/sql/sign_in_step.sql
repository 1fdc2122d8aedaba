UPDATE sign_in SET totp_step = %(step)s WHERE person = %(person)s AND totp_step < %(step)s
