TRUNCATE ledger_event, ledger_route, ledger_entitlement, ledger_receipt, ledger_statement, ledger_hour, ledger_receiver
