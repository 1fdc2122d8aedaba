-- depends: 0086.ledger_months
-- What a receiver said of an event that it refused, apart from our own reason: it may say again what stood in the event,
-- and is told to its own side and to the publisher alone.
ALTER TABLE ledger_receipt ADD COLUMN words text;
