CREATE TABLE fact_{month} PARTITION OF fact FOR VALUES IN ({month})
