"""From Avro schemas to tables of an agency's database: names, columns and values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from schemas.codec import to_jsonable
from schemas.contracts import TYPE_START, Schema

SOURCE_CHARS = 250
KEY_CHARS = 500
# MySQL's index entries hold 3,072 bytes, four a character.
Instant = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
Long = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

_PLAIN: Mapping[str, type[TypeEngine[Any]]] = {
    "boolean": Boolean,
    "int": Integer,
    "long": BigInteger,
    "float": Float,
    "double": Float,
    "bytes": LargeBinary,
}


def names_of(event_type: str) -> tuple[str, str]:
    """Return the table of an event type, and the state that its events give a row.

    ``cn.gov.sc.health.medical-ad-certificate.revoked`` is ``health_medical_ad_certificate`` and ``revoked``: all types
    of one thing share a table. Raises ValueError for a type that is not built so.
    """
    rest = event_type.removeprefix(f"{TYPE_START}.")
    thing, dot, state = rest.rpartition(".")
    if rest == event_type or not dot or not thing:
        raise ValueError(f"{event_type} names no thing and state")
    return thing.replace(".", "_").replace("-", "_"), state


def own_columns() -> list[Column[Any]]:
    """Return the columns that every table has: which thing it is, how it stands, and by which event."""
    return [
        Column("hongyan_source", String(SOURCE_CHARS), primary_key=True),
        Column("hongyan_key", String(KEY_CHARS), primary_key=True),
        Column("hongyan_state", String(64), nullable=False),
        Column("hongyan_event_id", String(255), nullable=False),
        Column("hongyan_cursor", BigInteger, nullable=False),
        Column("hongyan_time", Instant, nullable=False),
    ]


def data_columns(schema: Schema) -> list[Column[Any]]:
    """Return one nullable column a field."""
    return [Column(field["name"], column_type(field["type"]), comment=field.get("doc")) for field in schema["fields"]]


def column_type(kind: Any) -> TypeEngine[Any]:  # noqa: ANN401  (an Avro type is text, a list or an object)
    """Return the column type of an Avro type; records, lists and maps are JSON."""
    if isinstance(kind, list):
        branches = [branch for branch in kind if branch != "null"]
        return column_type(branches[0]) if len(branches) == 1 else JSON()
    logical = kind.get("logicalType") if isinstance(kind, dict) else None
    name = kind["type"] if isinstance(kind, dict) else kind
    if logical == "date":
        return Date()
    if logical in {"timestamp-millis", "timestamp-micros"}:
        return Instant
    if logical == "decimal":
        return Numeric(kind["precision"], kind.get("scale", 0))
    if name in {"string", "enum"}:
        return Long
    return _PLAIN[name]() if name in _PLAIN else JSON()


def table_of(name: str, columns: list[Column[Any]]) -> Table:
    """Return a table of these columns."""
    return Table(name, MetaData(), *columns, mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin")


def values_of(data: Mapping[str, Any], *, aware: bool) -> dict[str, Any]:
    """Return decoded data as column values; ``aware`` false for databases whose times bear no zone (UTC then)."""
    return {name: value_of(value, aware=aware) for name, value in data.items()}


def value_of(value: Any, *, aware: bool) -> Any:  # noqa: ANN401
    """Return one value as its column holds it."""
    if isinstance(value, datetime):
        instant = value.astimezone(UTC)
        return instant if aware else instant.replace(tzinfo=None)
    if isinstance(value, list | dict):
        return to_jsonable({"value": value})["value"]
    return value
