-- depends: 0091.audit_outcomes
-- What was parked before a message was made of it bore no business key on its receipt: it is that of the event which the
-- agency was entitled to, where only one has that id.
WITH known AS (
    SELECT agency, event_id, source, min(subject) AS subject FROM ledger_entitlement
    WHERE event_id IN (SELECT event_id FROM ledger_receipt WHERE subject IS NULL)
    GROUP BY agency, event_id, source
    HAVING count(DISTINCT subject) = 1
)
UPDATE ledger_receipt receipt SET subject = known.subject FROM known
WHERE receipt.subject IS NULL AND known.agency = receipt.agency AND known.event_id = receipt.event_id
    AND known.source = receipt.source;
