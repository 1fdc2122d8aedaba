INSERT INTO statistics_department (code, valid_from, unit_code, unit_name, decided_by, reason)
VALUES (%s, %s, %s, %s, %s, %s)
