INSERT INTO agency_access (agency, channel, ack_key)
VALUES (%(agency)s, coalesce(%(channel)s, 'webhook'), %(ack_key)s)
ON CONFLICT (agency) DO UPDATE SET
    channel = coalesce(%(channel)s, agency_access.channel),
    ack_key = coalesce(%(ack_key)s, agency_access.ack_key),
    version = agency_access.version + 1
RETURNING agency, channel, ack_key, version
