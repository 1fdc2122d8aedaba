INSERT INTO department (id, name, source, types, divisions, client_id, rate_per_s, burst)
VALUES (%(id)s, %(name)s, %(source)s, %(types)s, %(divisions)s, %(client_id)s, %(rate_per_s)s, %(burst)s)
