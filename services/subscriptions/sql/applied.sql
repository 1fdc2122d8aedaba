SELECT DISTINCT decided_by FROM decision
WHERE kind = 'subscription' AND subject = %s AND action IN ('draft', 'edit', 'submit')
