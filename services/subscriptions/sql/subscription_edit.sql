UPDATE subscription
SET types = %(types)s, filters = %(filters)s, basis = %(basis)s, scene = %(scene)s, scope = %(scope)s,
    method = %(method)s, valid_from = %(valid_from)s, valid_until = %(valid_until)s, backfill_from = %(backfill_from)s,
    fields = %(fields)s, divisions = %(divisions)s, forward_to = %(forward_to)s, replaces = %(replaces)s,
    applicant = %(applicant)s, version = version + 1
WHERE id = %(id)s
RETURNING *
