INSERT INTO agency_key (id, agency, kind, sealed, public)
VALUES (%(id)s, %(agency)s, %(kind)s, %(sealed)s, %(public)s)
