SELECT f.event_id, f.case_key
FROM fact f
WHERE f.month = %(month)s AND f.follows IS NOT NULL
  AND NOT EXISTS (SELECT FROM identity i WHERE i.id = f.follows)
ORDER BY f.event_id
LIMIT %(limit)s
