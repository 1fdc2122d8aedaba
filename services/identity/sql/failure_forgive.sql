DELETE FROM sign_in_failure WHERE subject = %s
