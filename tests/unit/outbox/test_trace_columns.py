"""A row of the outbox may say which trace it belongs to; a table that an earlier version made has no such columns."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from producers.outbox.helper import add_event
from producers.outbox.repository import Outbox, create_statement
from schemas.tracing import new_trace


@pytest.mark.parametrize("old", [False, True])
def test_rows_are_read_with_or_without_them(tmp_path: Path, old: bool) -> None:
    """Nothing has to be altered for an old table to go on working."""
    file, context = tmp_path / "outbox.sqlite", new_trace(sampled=True)
    with sqlite3.connect(file) as connection:
        connection.executescript(create_statement("sqlite"))
        if old:
            connection.execute("ALTER TABLE hongyan_outbox DROP COLUMN traceparent")
            connection.execute("ALTER TABLE hongyan_outbox DROP COLUMN tracestate")
        given = None if old else context.traceparent
        add_event(connection.cursor(), "cn.gov.sc.window.case.accepted", "k", {}, traceparent=given, placeholder="?")
        add_event(connection.cursor(), "cn.gov.sc.window.case.accepted", "k", {}, placeholder="?")
    connection.close()
    with Outbox(f"sqlite:///{file}", "hongyan_outbox", "mark", 60.0).session() as session:
        rows = session.unsent(10)
    assert [row.traceparent for row in rows] == [given, None]
