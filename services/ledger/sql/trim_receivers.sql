DELETE FROM ledger_receiver WHERE newest < %s
