"""What the router takes for an event, before its body is decoded."""

from __future__ import annotations

import pytest

from consumers.router.reading import Incoming, read
from schemas.reading import Unreadable
from tests.events import ISSUED
from tests.fakes.kafka import FakeRecord

GOOD = {"id": "e1", "source": "urn:a", "type": ISSUED, "subject": "key", "time": "2025-12-01T08:00:00+08:00"}
VALUE = b"\x00\x00\x00\x00\x01body"


class Names:
    """Knows one schema."""

    def type_of(self, schema_id: int) -> str | None:
        """Return its type."""
        return ISSUED if schema_id == 1 else None


def reading(**changes: str) -> Incoming | Unreadable:
    """Read a good event with some attributes changed."""
    attributes = GOOD | changes
    headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    return read(FakeRecord("events", 0, 0, 0, attributes["subject"].encode(), VALUE, headers), Names())


@pytest.mark.parametrize("name", ["time", "recordedtime"])
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("2025-12-01T00:00:00Z", True),
        ("2025-12-01T08:00:00.123456789+08:00", True),
        ("2025-12-01T08:00:00", False),
        ("2025-12-01", False),
        ("20251201T080000+0800", False),
        ("2025-13-01T08:00:00+08:00", False),
        ("0001-01-01T00:00:00+08:00", False),
        ("yesterday", False),
    ],
)
def test_times_are_rfc_3339_with_an_offset(name: str, text: str, good: bool) -> None:
    """Whoever measures a delay by them later need not guess; the reason names the attribute."""
    found = reading(**{name: text})
    assert isinstance(found, Incoming if good else Unreadable)
    assert good or (isinstance(found, Unreadable) and f"attribute {name} is not RFC 3339" in found.reason)


def test_an_identity_is_source_id_and_business_key() -> None:
    """Any of the three that differs makes another event, whatever partition it lies in; other content does not."""
    changes = [{}, {"id": "e2"}, {"source": "urn:b"}, {"subject": "other"}]
    identities = {found.identity for change in changes if isinstance(found := reading(**change), Incoming)}
    assert len(identities) == len(changes)
    later = reading(time="2025-12-02T08:00:00+08:00")
    assert isinstance(later, Incoming)
    assert later.identity in identities
