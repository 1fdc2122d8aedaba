DELETE FROM ledger_hour WHERE hour < %s
