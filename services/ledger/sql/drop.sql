SELECT ledger_drop(%s)
