SELECT count(*)
FROM fact
WHERE type = %(type)s AND occurred_at >= %(from)s AND occurred_at < %(to)s AND dimensions @> %(where)s
