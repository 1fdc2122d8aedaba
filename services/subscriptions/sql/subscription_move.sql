UPDATE subscription
SET state = %(state)s, version = version + 1, applicant = COALESCE(%(applicant)s, applicant),
    approver = COALESCE(%(approver)s, approver)
WHERE id = %(id)s
RETURNING *
