SELECT pg_advisory_lock(hashtextextended('hongyan statistics settling ' || current_schema(), 0))
