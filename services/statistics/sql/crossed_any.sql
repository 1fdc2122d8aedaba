SELECT FROM statistics_crossed WHERE month = %s AND revision = %s LIMIT 1
