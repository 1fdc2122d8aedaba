UPDATE sign_in SET recovery = array_remove(recovery, %(digest)s)
WHERE person = %(person)s AND %(digest)s = ANY (recovery)
