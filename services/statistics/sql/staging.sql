CREATE TEMP TABLE IF NOT EXISTS staging (
    identity uuid, digest uuid, month integer, cell bigint, kind integer, case_id uuid, event_id text, case_key text,
    occurred_at timestamptz, recorded_at timestamptz, follows uuid, marks text, detail jsonb, log integer,
    "offset" bigint, batch bigint
) ON COMMIT DELETE ROWS
