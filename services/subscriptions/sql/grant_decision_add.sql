INSERT INTO decision (kind, subject, version, action, decided_by, entered_by, reason)
VALUES ('subscription', %s, %s, %s, %s, %s, %s)
