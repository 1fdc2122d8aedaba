SELECT count(*) FROM staging s JOIN identity i ON i.id = s.identity WHERE i.digest <> s.digest
