SELECT metric_id, dimension, value, exact, count FROM statistics_figure WHERE month = %s AND revision = %s
