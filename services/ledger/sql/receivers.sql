SELECT agency FROM ledger_receiver WHERE source = %(source)s AND agency = ANY(%(agencies)s)
