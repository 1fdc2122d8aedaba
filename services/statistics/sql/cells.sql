DELETE FROM month_cell WHERE month IN (SELECT month FROM month_state WHERE stale);

INSERT INTO month_cell (
    month, cell, events, cases, events_digest, cases_digest, events_marked, cases_marked, events_first, cases_first
)
SELECT
    month, cell, count(*) FILTER (WHERE NOT void), count(*) FILTER (WHERE NOT aside),
    sha256(coalesce(string_agg(uuid_send(identity), ''::bytea ORDER BY identity) FILTER (WHERE NOT void), '')),
    sha256(coalesce(string_agg(uuid_send(identity), ''::bytea ORDER BY identity) FILTER (WHERE NOT aside), '')),
    count(marks) FILTER (WHERE NOT void), count(marks) FILTER (WHERE NOT aside),
    min(occurred_at) FILTER (WHERE NOT void), min(occurred_at) FILTER (WHERE NOT aside)
FROM fact
WHERE month IN (SELECT month FROM month_state WHERE stale)
GROUP BY month, cell;

UPDATE month_state SET stale = false WHERE stale;
