UPDATE consumer_offset SET next_offset = moved.next
FROM unnest(%(topics)s::text[], %(partitions)s::integer[], %(expected)s::bigint[], %(next)s::bigint[])
    AS moved (topic, partition, expected, next)
WHERE consumer = %(consumer)s AND consumer_offset.topic = moved.topic AND consumer_offset.partition = moved.partition
    AND next_offset = moved.expected
