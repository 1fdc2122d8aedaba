SELECT decided_by, reason, decided_at FROM decision
WHERE kind = 'agency' AND subject = %s AND action = 'suspended' ORDER BY id DESC LIMIT 1
