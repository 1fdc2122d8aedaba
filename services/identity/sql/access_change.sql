INSERT INTO agency_access (agency, channel, ack_key, kafka_user)
VALUES (%(agency)s, coalesce(%(channel)s, 'webhook'), %(ack_key)s, coalesce(%(kafka_user)s, false))
ON CONFLICT (agency) DO UPDATE SET
    channel = coalesce(%(channel)s, agency_access.channel),
    ack_key = coalesce(%(ack_key)s, agency_access.ack_key),
    kafka_user = coalesce(%(kafka_user)s, agency_access.kafka_user),
    version = agency_access.version + 1
RETURNING agency, channel, ack_key, kafka_user, version
