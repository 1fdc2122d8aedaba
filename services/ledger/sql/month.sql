SELECT ledger_month(%s)
