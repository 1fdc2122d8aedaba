SELECT code, valid_from, unit_code, unit_name FROM statistics_department
