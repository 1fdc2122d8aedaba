SELECT ledger_trim(%s)
