SELECT id, name, division, coalesce(channel, 'webhook') AS channel, sink, state, agency.version, delivery, verified_at
FROM agency LEFT JOIN agency_access ON agency_access.agency = agency.id
ORDER BY id
