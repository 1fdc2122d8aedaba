UPDATE department SET name = %(name)s, types = %(types)s, divisions = %(divisions)s, client_id = %(client_id)s,
    rate_per_s = %(rate_per_s)s, burst = %(burst)s
WHERE id = %(id)s
