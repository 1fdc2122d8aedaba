SELECT ledger_settle(%s)
