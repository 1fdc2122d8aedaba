SELECT events_digest FROM statistics_figure WHERE month = %s AND revision = %s AND metric_id = %s AND dimension = ''
