SELECT agency.id AS agency, coalesce(channel, 'webhook') AS channel, ack_key,
    coalesce(kafka_user, false) AS kafka_user, coalesce(agency_access.version, 0) AS version
FROM agency LEFT JOIN agency_access ON agency_access.agency = agency.id
WHERE agency.id = %s
