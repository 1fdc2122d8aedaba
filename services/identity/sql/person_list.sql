SELECT id, name, agency, department, approves, roles, state FROM person
