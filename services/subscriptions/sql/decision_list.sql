SELECT version, action, decided_by, entered_by, reason, decided_at FROM decision
WHERE kind = 'subscription' AND subject = %s ORDER BY id
