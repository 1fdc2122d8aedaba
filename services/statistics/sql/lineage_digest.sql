SELECT month, cell, sha256(string_agg(uuid_send(identity), ''::bytea ORDER BY identity))
FROM counted
GROUP BY month, cell
