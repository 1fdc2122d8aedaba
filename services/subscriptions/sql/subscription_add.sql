INSERT INTO subscription (id, agency, types, filters, basis, scene, scope, method, valid_from, valid_until, backfill_from,
                          fields, divisions, forward_to, replaces, applicant, state)
VALUES (%(id)s, %(agency)s, %(types)s, %(filters)s, %(basis)s, %(scene)s, %(scope)s, %(method)s, %(valid_from)s,
        %(valid_until)s, %(backfill_from)s, %(fields)s, %(divisions)s, %(forward_to)s, %(replaces)s, %(applicant)s, 'draft')
RETURNING *
