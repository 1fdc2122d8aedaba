SELECT date_bin(%(slot)s::interval, logged_at, %(since)s) AS at,
    count(*) FILTER (WHERE outcome = 'delivered') AS delivered, count(*) FILTER (WHERE outcome = 'parked') AS parked
FROM ledger_receipt
WHERE agency = %(agency)s AND logged_at >= %(since)s AND outcome IN ('delivered', 'parked')
GROUP BY at
ORDER BY at
