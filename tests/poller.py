"""A health commission's table that knows nothing of Hongyan, and a mapping of its rows."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from producers.poller.journal import Journal
from schemas.contracts import load_contracts
from schemas.topics import EVENT_PARTITIONS, Topics
from services.runtime.kafka.port import Kafka, Record
from tests.databases import Department
from tests.events import CORRECTED, ISSUED, REVOKED, SOURCE, attribute, read_all

NAME = "certificates"
CREATE = """
CREATE TABLE ad_certificate (
    id int PRIMARY KEY,
    number varchar(64),
    hospital varchar(64),
    class_code char(4),
    beds decimal(10, 0),
    media varchar(64),
    issued_at {timestamp},
    changed_at {timestamp}
){options}
"""
CONSTANTS = ("reviewer_code", "reviewer_name", "reviewer_level", "reviewer_division", "institution_uscc")


def mapping(department: Department, **changes: Any) -> dict[str, Any]:
    """Return the mapping of the certificates, with some of its parts changed."""
    sample = load_contracts().types[ISSUED].sample
    constants = {name: {"const": sample[name]} for name in (*CONSTANTS, "registration_no", "address")}
    fields = {
        "certificate_no": "number",
        "institution_name": "hospital",
        "institution_class": {"column": "class_code", "codes": "classes"},
        "beds": "beds",
        "media_types": {"column": "media", "split": "、"},
        "issued_on": "issued_at",
        "valid_from": "issued_at",
        "valid_to": {"const": "2099-12-01"},
    }
    return {
        "name": NAME,
        "url": department.url,
        "source": SOURCE,
        "type": ISSUED,
        "query": "SELECT c.* FROM ad_certificate c WHERE number NOT LIKE 'draft:%' -- the published ones",
        "key": ["id"],
        "cursor": {"column": "changed_at", "overlap": 60},
        "fields": constants | fields,
        "codes": {"classes": {"A100": "综合医院", "B200": "专科医院"}},
        "changed": {"type": CORRECTED, "fields": {"corrected_on": {"now": "date"}}},
        "poll_s": 0.05,
        "retry_s": 0.2,
        "batch": 20,
    } | changes


DELETED = {
    "type": REVOKED,
    "fields": {"reason_code": {"const": "other"}, "decided_on": {"now": "date"}},
}


def write_mapping(folder: Path, content: dict[str, Any]) -> Path:
    """Write a mapping file and return it."""
    file = folder / "mapping.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return file


def create(department: Department) -> None:
    """Create the table as each database does."""
    if department.kind == "postgresql":
        department.execute(CREATE.format(timestamp="timestamp", options=""))
    else:
        department.execute(CREATE.format(timestamp="datetime(6)", options=" DEFAULT CHARSET = utf8mb4"))


def add(cursor: Any, serial: int, *, age: str = "0", **changes: Any) -> None:
    """Add a certificate in the caller's transaction; ``age`` (seconds) makes its cursor older than the clock."""
    row = {
        "id": serial,
        "number": f"（川）医广〔2025〕第{serial:07d}号",
        "hospital": f"合成医院{serial}",
        "class_code": "A100",
        "beds": 20,
        "media": "网络、户外",
        "issued_at": "2025-12-02 10:15:00",
    } | changes
    names = ", ".join(row)
    marks = ", ".join(["%s"] * len(row))
    moment = f"localtimestamp - interval '{age}' second"
    if "changed_at" not in row:
        names, marks = f"{names}, changed_at", f"{marks}, {moment}"
    cursor.execute(f"INSERT INTO ad_certificate ({names}) VALUES ({marks})", list(row.values()))


def commit(department: Department, *numbers: int, **changes: Any) -> None:
    """Commit certificates in one transaction."""
    connection = department.connect()
    for number in numbers:
        add(connection.cursor(), number, **changes)
    connection.commit()
    connection.close()


def change(department: Department, number: int, touch: bool = True, **changes: Any) -> None:
    """Change a certificate; with ``touch`` its cursor, too."""
    sets = [f"{name} = %s" for name in changes] + (["changed_at = localtimestamp"] if touch else [])
    values = [*changes.values(), number]
    department.execute(f"UPDATE ad_certificate SET {', '.join(sets)} WHERE id = %s", values)


def published(kafka: Kafka, topics: Topics) -> list[Record]:
    """Return what stands on the topic of the certificates."""
    return read_all(kafka, topics.events("health"), EVENT_PARTITIONS)


def told(kafka: Kafka, topics: Topics) -> dict[str, list[str]]:
    """Return the last words of the event types of each certificate, in order, by the serial of its number."""
    found: dict[str, list[str]] = defaultdict(list)
    for record in published(kafka, topics):
        serial = attribute(record, "ce_subject").split("第")[1].rstrip("号").lstrip("0")
        found[serial].append(attribute(record, "ce_type").rsplit(".", 1)[1])
    return dict(found)


def rejected(kafka: Kafka, topics: Topics) -> dict[str, dict[str, Any]]:
    """Return the rows that are rejected now."""
    return Journal(kafka, topics, NAME).rejects()
