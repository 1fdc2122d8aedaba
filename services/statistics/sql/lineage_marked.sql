SELECT count(*) FROM counted WHERE marks IS NOT NULL
