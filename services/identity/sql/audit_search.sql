SELECT id, at, person, roles, address, action, object, reason, outcome, fields, detail
FROM audit
WHERE (%(person)s::text IS NULL OR person = %(person)s)
  AND (%(action)s::text IS NULL OR action LIKE %(action)s)
  AND (%(object)s::text IS NULL OR object LIKE %(object)s)
  AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
  -- What has ended is told by the line that says how.
  AND (outcome <> 'begun' OR NOT EXISTS (SELECT FROM audit AS ended WHERE ended.begun = audit.id))
ORDER BY id DESC
LIMIT %(limit)s
