-- depends: 0072.crossed_figures
-- Whether a Kafka user was made for an agency: its right to read is taken away again with the channel.
ALTER TABLE agency_access ADD COLUMN kafka_user boolean NOT NULL DEFAULT false;
UPDATE agency_access SET kafka_user = true
WHERE agency IN (SELECT subject FROM decision WHERE kind = 'access' AND action = 'kafka-user');
