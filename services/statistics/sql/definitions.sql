SELECT metric_id, version, digest, document FROM statistics_definition
