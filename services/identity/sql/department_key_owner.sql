SELECT department.source FROM department_key JOIN department ON department.id = department_key.department
WHERE digest = %s AND (expires_at IS NULL OR expires_at > now())
