UPDATE department_key SET expires_at = now() + %s WHERE id = %s AND department = %s
