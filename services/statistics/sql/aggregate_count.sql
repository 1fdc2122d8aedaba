SELECT grp, count(*)::numeric, NULL::numeric, count(*) FROM counted GROUP BY grp
