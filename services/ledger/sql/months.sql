SELECT name, ended FROM ledger_months(%s)
