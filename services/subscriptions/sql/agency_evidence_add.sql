INSERT INTO agency_evidence (agency, digest, passed, document) VALUES (%s, %s, %s, %s)
ON CONFLICT (agency, digest) DO NOTHING
