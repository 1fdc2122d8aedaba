CREATE TABLE consumer_offset (LIKE statistics.consumer_offset INCLUDING ALL);
CREATE TABLE identity (LIKE statistics.identity INCLUDING ALL);
CREATE TABLE cell (LIKE statistics.cell INCLUDING ALL);
CREATE TABLE fact (LIKE statistics.fact INCLUDING ALL) PARTITION BY LIST (month);
CREATE TABLE correction (LIKE statistics.correction INCLUDING ALL);
CREATE TABLE batch (LIKE statistics.batch INCLUDING ALL);
CREATE TABLE standing (LIKE statistics.standing INCLUDING ALL);
CREATE TABLE month_cell (LIKE statistics.month_cell INCLUDING ALL);
CREATE TABLE month_state (LIKE statistics.month_state INCLUDING ALL);
