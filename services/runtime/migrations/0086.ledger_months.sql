-- depends: 0085.ledger_trace
-- A writer may remember a month that was let go meanwhile: its rows go to the rest, where the month's partition can't be
-- made beside them. They move into it.

-- Makes the partitions of a month (UTC) that are missing, with what of it lay in the rest; several may ask at once.
CREATE OR REPLACE FUNCTION ledger_month(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
    made text;
    first timestamptz := month::timestamp AT TIME ZONE 'UTC';
    next timestamptz := (month + interval '1 month')::timestamp AT TIME ZONE 'UTC';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('hongyan.ledger_month'));
    FOREACH name IN ARRAY ARRAY['event', 'route', 'entitlement', 'receipt', 'statement'] LOOP
        made := format('ledger_%s_%s', name, to_char(month, 'YYYYMM'));
        CONTINUE WHEN to_regclass(made) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE ledger_%s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', made, name);
        -- Nobody may add to the rest between the move and the attachment, which locks it too.
        EXECUTE format('LOCK TABLE ONLY ledger_%s IN SHARE UPDATE EXCLUSIVE MODE', name);
        EXECUTE format('LOCK TABLE ledger_%s_rest IN ACCESS EXCLUSIVE MODE', name);
        EXECUTE format(
            'WITH moved AS (DELETE FROM ledger_%s_rest WHERE logged_at >= $1 AND logged_at < $2 RETURNING *) '
            'INSERT INTO %I SELECT * FROM moved', name, made
        ) USING first, next;
        EXECUTE format('ALTER TABLE ledger_%s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, made, first, next);
    END LOOP;
END $$;

-- Makes the months, from the first that may have one, of what lies in the rest, so that it is let go of like any other.
CREATE FUNCTION ledger_settle(earliest date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date;
BEGIN
    FOREACH month IN ARRAY ARRAY(
        SELECT date_trunc('month', logged_at AT TIME ZONE 'UTC')::date FROM (
            SELECT logged_at FROM ledger_event_rest UNION SELECT logged_at FROM ledger_route_rest
            UNION SELECT logged_at FROM ledger_entitlement_rest UNION SELECT logged_at FROM ledger_receipt_rest
            UNION SELECT logged_at FROM ledger_statement_rest
        ) lying WHERE logged_at >= earliest::timestamp AT TIME ZONE 'UTC' GROUP BY 1
    ) LOOP
        PERFORM ledger_month(month);
    END LOOP;
END $$;
