SELECT subject, failures, last_at FROM sign_in_failure WHERE subject = ANY (%s)
