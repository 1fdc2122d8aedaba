SELECT count(*) FROM staging JOIN fact USING (source, event_id) WHERE staging.digest <> fact.digest
