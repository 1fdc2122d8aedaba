-- depends: 0080.ledger_search
-- Which trace an event belongs to: 32 hexadecimal digits are a UUID's, in half the room.
ALTER TABLE ledger_event ADD COLUMN trace_id uuid;
