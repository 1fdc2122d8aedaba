SELECT digest, passed, recorded_at, document FROM agency_evidence WHERE agency = %s ORDER BY id DESC LIMIT 100
