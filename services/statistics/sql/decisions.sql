SELECT month, revision, state, decided_by, reason, override, refusals, positions, starts, digest, decided_at
FROM statistics_decision
ORDER BY month, id
