INSERT INTO subscription_version (subscription, version, document) VALUES (%s, %s, %s)
