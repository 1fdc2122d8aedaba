INSERT INTO decision (kind, subject, version, action, decided_by, reason) VALUES ('access', %s, %s, %s, %s, %s)
