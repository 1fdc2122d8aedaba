-- depends: 0065.ledger_follow_ups 0072.crossed_figures
-- Searches for readers of many kinds over ten million events, and retention by type.
-- The ledger is a view of the log: it is emptied here, and built anew from Kafka with what it lacked.
TRUNCATE ledger_event, ledger_route, ledger_entitlement, ledger_receipt, ledger_statement;
DELETE FROM consumer_offset WHERE consumer LIKE '%ledger';

-- What names somebody and is not public, beside what is: only those who may know it search by it.
ALTER TABLE ledger_event ADD COLUMN guarded text[] NOT NULL DEFAULT '{}';
DROP INDEX ledger_event_identifiers_idx, ledger_event_type_idx;
CREATE INDEX ON ledger_event USING gin (identifiers, guarded);
CREATE INDEX ON ledger_event (type, logged_at);

ALTER TABLE ledger_route ADD COLUMN type text, ADD COLUMN routed_at timestamptz;

-- An entitlement stands beside its event: the same place on the log and the same time; whole without a field policy.
ALTER TABLE ledger_entitlement
    ADD COLUMN topic     text NOT NULL,
    ADD COLUMN partition integer NOT NULL,
    ADD COLUMN "offset"  bigint NOT NULL,
    ADD COLUMN type      text,
    ADD COLUMN whole     boolean NOT NULL,
    ADD COLUMN routed_at timestamptz;
CREATE INDEX ON ledger_entitlement (agency, type, logged_at);

ALTER TABLE ledger_receipt ADD COLUMN type text;

-- How many an hour, for overviews: counted in the transaction that adds the rows. An event is counted in the hour of
-- its own time on the log, a receipt in the receipt's. No agency: of the whole source.
CREATE TABLE ledger_hour (
    hour   timestamptz NOT NULL,
    source text NOT NULL,
    agency text NOT NULL,
    what   text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (hour, source, agency, what)
) WITH (fillfactor = 70);
CREATE INDEX ON ledger_hour (agency, hour);

-- The partitions of months that ended before a time, oldest first, with the time at which each ended.
CREATE FUNCTION ledger_months(before timestamptz) RETURNS TABLE (name text, ended timestamptz) LANGUAGE sql STABLE AS $$
    SELECT name, ended FROM (
        SELECT child.relname::text AS name,
            (to_date(right(child.relname, 6), 'YYYYMM') + interval '1 month') AT TIME ZONE 'UTC' AS ended
        FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
        WHERE parent.relname LIKE 'ledger\_%' AND child.relkind = 'r' AND child.relname ~ '_[0-9]{6}$'
    ) month
    WHERE ended <= before ORDER BY ended, name
$$;

DROP FUNCTION ledger_trim;

-- Lets go of the rows of these types in one partition, or of the whole partition where nothing else is in it. Returns
-- how many rows went; null when the partition did.
CREATE FUNCTION ledger_trim(name text, expired text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    held boolean;
    gone bigint;
BEGIN
    IF name LIKE 'ledger\_statement\_%' THEN
        RETURN 0;  -- it speaks of events of many types, and is kept as long as any
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE type IS NULL OR type <> ALL ($1))', name) INTO held USING expired;
    IF NOT held THEN
        EXECUTE format('DROP TABLE %I', name);
        RETURN NULL;
    END IF;
    EXECUTE format('DELETE FROM %I WHERE type = ANY ($1)', name) USING expired;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

CREATE FUNCTION ledger_drop(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP TABLE %I', name);
END $$;
