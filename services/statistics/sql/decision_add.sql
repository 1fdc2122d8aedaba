INSERT INTO statistics_decision (
    month, revision, state, decided_by, reason, override, refusals, positions, starts, digest, decided_at
)
VALUES (
    %(month)s, %(revision)s, %(state)s, %(by)s, %(reason)s, %(override)s, %(refusals)s, %(positions)s, %(starts)s,
    %(digest)s, %(at)s
)
