INSERT INTO decision (kind, subject, version, action, decided_by, reason) VALUES ('department', %s, %s, %s, %s, %s)
