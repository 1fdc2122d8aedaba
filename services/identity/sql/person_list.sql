SELECT id, name, agency, department, approves FROM person
