SELECT metric_id, version FROM statistics_figure WHERE month = %s AND revision = %s AND dimension = ''
