WITH counted AS (
    SELECT * FROM unnest(%(hours)s::timestamptz[], %(sources)s::text[], %(agencies)s::text[], %(whats)s::text[],
        %(numbers)s::bigint[]) AS given (hour, source, agency, what, number)
), received AS (
    INSERT INTO ledger_receiver (source, agency, newest)
    SELECT source, agency, max(hour) FROM counted WHERE what = 'entitled' AND agency <> ''
    GROUP BY source, agency ORDER BY source, agency
    -- Of the same hour nothing is written again.
    ON CONFLICT (source, agency) DO UPDATE SET newest = excluded.newest WHERE ledger_receiver.newest < excluded.newest
)
INSERT INTO ledger_hour (hour, source, agency, what, number)
SELECT * FROM counted
ON CONFLICT (hour, source, agency, what) DO UPDATE SET number = ledger_hour.number + excluded.number
