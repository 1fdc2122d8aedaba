INSERT INTO ledger_hour (hour, source, agency, what, number)
SELECT * FROM unnest(%(hours)s::timestamptz[], %(sources)s::text[], %(agencies)s::text[], %(whats)s::text[],
    %(numbers)s::bigint[])
ON CONFLICT (hour, source, agency, what) DO UPDATE SET number = ledger_hour.number + excluded.number
