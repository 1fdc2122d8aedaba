SELECT digest, csrf, s.created_at, seen_at, address, agent, method,
       coalesce(i.one_time, false) AS one_time, i.totp IS NOT NULL AS second_factor,
       p.id, p.name, p.agency, p.department, p.approves, p.roles, p.state
FROM portal_session AS s JOIN person AS p ON p.id = s.person LEFT JOIN sign_in AS i ON i.person = s.person
