UPDATE person SET name = %(name)s, approves = %(approves)s, roles = %(roles)s, state = %(state)s WHERE id = %(id)s
