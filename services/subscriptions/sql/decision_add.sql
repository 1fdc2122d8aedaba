INSERT INTO decision (kind, subject, version, action, decided_by, reason) VALUES (%s, %s, %s, %s, %s, %s)
