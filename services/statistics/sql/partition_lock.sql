SELECT pg_advisory_xact_lock(hashtextextended('hongyan statistics partitions', 0))
