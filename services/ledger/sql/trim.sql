SELECT ledger_trim(%s, %s)
