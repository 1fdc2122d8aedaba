INSERT INTO department_key (id, department, digest) VALUES (%s, %s, %s)
