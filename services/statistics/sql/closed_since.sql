SELECT month FROM statistics_decision WHERE month >= %s AND state <> 'provisional' ORDER BY month LIMIT 1
