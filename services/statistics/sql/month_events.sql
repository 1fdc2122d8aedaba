SELECT count(*) FROM fact WHERE occurred_at >= %(from)s AND occurred_at < %(to)s
