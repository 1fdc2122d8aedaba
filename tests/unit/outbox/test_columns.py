"""The outbox has the columns that Debezium's outbox event router reads by default, so that it can take over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from producers.outbox.repository import create_statement, outbox_table

SQL = Path(__file__).parents[3] / "producers" / "outbox" / "sql"
# Debezium, outbox event router: table.field.event.id, route.by.field, table.field.event.key, .type and .payload.
ROUTED = ["id", "aggregatetype", "aggregateid", "type", "payload"]


@pytest.mark.parametrize("text", [*(file.read_text("utf-8") for file in SQL.glob("*.sql")), create_statement("sqlite")])
def test_every_dialect_has_them_first_and_filled(text: str) -> None:
    """By name, and never null."""
    table = text[text.index("CREATE TABLE hongyan_outbox ") :]
    lines = [line.strip() for line in table.splitlines()[1:] if re.match(r"\s+[a-z]+ ", line)]
    assert [line.split()[0] for line in lines][:5] == ROUTED
    assert all("NOT NULL" in line or "PRIMARY KEY" in line for line in lines[:5])


def test_whatever_else_it_has_the_application_may_leave_out() -> None:
    """A plain INSERT of the five is enough; only the position comes from the database."""
    others = [column for column in outbox_table().columns if column.name not in ROUTED]
    assert all(c.nullable or c.server_default is not None or c.identity is not None for c in others)
