UPDATE consumer_offset
SET next_offset = %(next)s
WHERE consumer = %(consumer)s AND topic = %(topic)s AND partition = %(partition)s AND next_offset = %(expected)s
