DELETE FROM month_cell WHERE month IN (SELECT month FROM month_state WHERE stale);

INSERT INTO month_cell (month, cell, events, cases, events_digest, cases_digest)
SELECT
    month, cell, count(*) FILTER (WHERE NOT void), count(*) FILTER (WHERE NOT aside),
    sha256(coalesce(string_agg(uuid_send(identity), ''::bytea ORDER BY identity) FILTER (WHERE NOT void), '')),
    sha256(coalesce(string_agg(uuid_send(identity), ''::bytea ORDER BY identity) FILTER (WHERE NOT aside), ''))
FROM fact
WHERE month IN (SELECT month FROM month_state WHERE stale)
GROUP BY month, cell;

UPDATE month_state SET stale = false WHERE stale;
