SELECT f.identity, f.event_id, f.case_id, f.case_key, f.month, f.cell, f.occurred_at, f.detail, f.marks, f.log,
    f."offset", chosen.grp
FROM fact f JOIN chosen ON chosen.cell = f.cell {part}
WHERE f.recorded_at >= %(from)s AND f.recorded_at < %(to)s AND f.kind = ANY(%(kinds)s) AND NOT f.{skipped}
