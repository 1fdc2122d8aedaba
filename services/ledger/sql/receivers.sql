-- One look into the index for each agency.
SELECT agency FROM unnest(%(agencies)s::text[]) AS wanted (agency)
WHERE EXISTS (
    SELECT FROM ledger_hour WHERE source = %(source)s AND ledger_hour.agency = wanted.agency AND what = 'entitled'
)
