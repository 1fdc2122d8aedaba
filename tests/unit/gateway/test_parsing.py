"""CloudEvents over HTTP, as they come: what can't be read is told by its place, and spoils nothing beside it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from producers.gateway.parsing import BATCH, STRUCTURED, Parsed, UnsupportedMediaTypeError, parse
from services.runtime.errors import InvalidError


def read(body: object, kind: str = BATCH, **headers: str) -> list[Parsed]:
    """Parse a body; its Avro is any bytes."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse(kind, headers, payload, lambda _, value: {"avro": len(value)}, 10)


def packed(content: bytes, **event: Any) -> dict[str, Any]:
    """Return an event whose data is base64."""
    return {"id": "1", "data_base64": base64.b64encode(content).decode(), **event}


@pytest.mark.parametrize(
    ("kind", "content", "data"),
    [
        ("application/json", b"{}", {}),
        ("Application/JSON; charset=utf-8", b"{}", {}),
        ("application/problem+json", b"{}", {}),
        ("Avro/Binary", b"abc", {"avro": 3}),
        ("application/avro;v=1", b"abc", {"avro": 3}),
    ],
)
def test_the_data_may_be_of_any_known_kind_however_it_is_written(kind: str, content: bytes, data: object) -> None:
    """A media type has parameters and no case, in the envelope as in the header."""
    (event,) = read(packed(content, datacontenttype=kind), STRUCTURED)
    assert event.data == data
    (event,) = read(content, kind, **{"ce-id": "1"})
    assert event.data == data


def test_one_event_of_an_unknown_kind_does_not_spoil_the_batch() -> None:
    """It is named by its place, as is one whose data is no JSON."""
    odd, broken = packed(b"<a/>", datacontenttype="application/xml"), packed(b"{")
    found = read([{"id": "0", "data": {}}, odd, broken, packed(b"{}")])
    assert [[problem.pointer for problem in event.problems] for event in found] == [
        [],
        ["/1/datacontenttype"],
        ["/2/data_base64"],
        [],
    ]


def test_alone_it_is_told_in_the_same_way() -> None:
    """The body was understood, a field of it is wrong; a body of an unknown kind is another matter."""
    with pytest.raises(InvalidError) as caught:
        read(packed(b"<a/>", datacontenttype="application/xml"), STRUCTURED)
    assert [problem.pointer for problem in caught.value.problems] == ["/datacontenttype"]
    with pytest.raises(UnsupportedMediaTypeError):
        read(b"<a/>", "application/xml", **{"ce-id": "1"})
