INSERT INTO month_state (month, stale) VALUES (%s, false)
