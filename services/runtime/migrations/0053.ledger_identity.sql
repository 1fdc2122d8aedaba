-- depends: 0052.event_identity
-- The same id under another business key is another event: entitlements and receipts tell which.
ALTER TABLE ledger_entitlement ADD COLUMN subject text;
ALTER TABLE ledger_receipt ADD COLUMN subject text;
UPDATE ledger_entitlement SET subject = event.subject FROM ledger_event event
WHERE event.event_id = ledger_entitlement.event_id AND event.source = ledger_entitlement.source
    AND event.logged_at = ledger_entitlement.logged_at;
UPDATE ledger_receipt SET subject = event.subject FROM ledger_event event
WHERE event.event_id = ledger_receipt.event_id AND event.source = ledger_receipt.source;
