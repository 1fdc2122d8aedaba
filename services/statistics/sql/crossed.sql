SELECT dimension, figures
FROM statistics_crossed
WHERE month = %(month)s AND revision = %(revision)s AND metric_id = %(metric_id)s
  AND dimension = ANY(%(dimensions)s) AND other = ANY(%(dimensions)s)
