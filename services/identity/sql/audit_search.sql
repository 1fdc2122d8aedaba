SELECT id, at, person, roles, address, action, object, reason, outcome, fields, detail
FROM audit
WHERE (%(person)s::text IS NULL OR person = %(person)s)
  AND (%(action)s::text IS NULL OR action LIKE %(action)s)
  AND (%(object)s::text IS NULL OR object LIKE %(object)s)
  AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
LIMIT %(limit)s
