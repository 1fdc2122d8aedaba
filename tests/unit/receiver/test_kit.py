"""The receiver's kit, in FastAPI, Flask and plain WSGI, against the very check that agencies must pass."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import orjson
import pytest
from fastapi import FastAPI, Request, Response

from consumers.receiver import kit
from consumers.receiver.checking import CHECKS, check
from consumers.receiver.kit import (
    Event,
    MemorySeen,
    Receiver,
    Refuse,
    SqliteSeen,
    Untrusted,
    WsgiApp,
    events_of,
    verify,
)
from consumers.receiver.probing import Probe
from schemas.envelope import message_id
from services.delivery import trial
from services.delivery.signing import new_private_key, public_key, signed_headers
from tests.configuration import SECRET
from tests.webservers import serving_asgi, serving_wsgi

OTHER = "whsec_" + "A" * 32


@contextmanager
def fastapi(receiver: Receiver) -> Iterator[str]:
    """Serve the kit in FastAPI."""
    app = FastAPI()

    @app.post("/")
    async def receive(request: Request) -> Response:
        answer = receiver.receive(request.headers.items(), await request.body())
        return Response(answer.body, answer.status, dict(answer.headers))

    with serving_asgi(app) as url:
        yield url


@contextmanager
def in_flask(receiver: Receiver) -> Iterator[str]:
    """Serve the kit in Flask."""
    app = flask.Flask("receiver")

    @app.post("/")
    def receive() -> flask.Response:
        answer = receiver.receive(flask.request.headers.items(), flask.request.get_data())
        return flask.Response(answer.body, answer.status, dict(answer.headers))

    with serving_wsgi(app) as url:
        yield url


@contextmanager
def wsgi(receiver: Receiver) -> Iterator[str]:
    """Serve the kit as plain WSGI."""
    with serving_wsgi(WsgiApp(receiver)) as url:
        yield url


@pytest.mark.parametrize("serve", [fastapi, in_flask, wsgi])
def test_a_receiver_made_of_the_kit_passes_the_check(serve: Callable[[Receiver], Any]) -> None:
    """Every check, in each of three frameworks, over real HTTP."""
    with serve(Receiver([SECRET], lambda _: None)) as url:
        results = check(Probe(url, SECRET, 10.0))
    assert [one.name for one in results if one.passed is not True] == []
    assert [one.name for one in results if one.detail] == ["slow-answer"]  # which says what was measured
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("serve", [fastapi, in_flask, wsgi])
def test_an_ed25519_receiver_passes_it_too(serve: Callable[[Receiver], Any]) -> None:
    """It knows the public key only."""
    private = new_private_key()
    with serve(Receiver([public_key(private)], lambda _: None)) as url:
        results = check(Probe(url, private, 10.0))
    assert [one.name for one in results if not one.passed] == []


def event(event_id: str, source: str = "urn:a", **more: Any) -> dict[str, Any]:
    """Return an event as it is posted."""
    return {"specversion": "1.0", "id": event_id, "source": source, "type": "t", "subject": "k", "data": {}} | more


def named(body: object) -> str:
    """Return what a request is named: a single event after its identity."""
    if not isinstance(body, dict) or "source" not in body:
        return "batch-x"
    return message_id(body["source"], body["id"], body["subject"])


def post(receiver: Receiver, body: object, secrets: Sequence[str] = (SECRET,), **more: str) -> int:
    """Give a receiver a signed request, with headers that are not signed, and return the status."""
    raw = orjson.dumps(body)
    headers = signed_headers(secrets, named(body), int(time.time()), raw)
    return receiver.receive((headers | more).items(), raw).status


def test_an_event_is_handled_once_whatever_request_it_comes_in() -> None:
    """Singly, again, and inside a batch; two departments may use one id, and one department under two keys."""
    handled: list[tuple[str, str, str]] = []
    receiver = Receiver([SECRET], lambda e: handled.append((e.source, e.id, e.subject)))
    assert post(receiver, event("1")) == 204
    assert post(receiver, event("1")) == 204
    batch = [event("1"), event("2"), event("1", "urn:b"), event("1", subject="k2")]
    assert post(receiver, batch) == 204
    assert handled == [("urn:a", "1", "k"), ("urn:a", "2", "k"), ("urn:b", "1", "k"), ("urn:a", "1", "k2")]


def test_an_event_is_told_by_what_its_delivery_is_named_after() -> None:
    """So a receiver may go by the header alone, or work the key out from a batch."""
    name = message_id("urn:a", "证1", "川 1")
    (found,) = events_of({"webhook-id": name}, orjson.dumps(event("证1", subject="川 1")))
    assert found.key == name


def test_what_is_not_signed_makes_no_event_another() -> None:
    """Whoever has seen a request may send it again with other headers: ce- beside JSON, or another Avro event's."""
    handled: list[Event] = []
    receiver = Receiver([SECRET], handled.append)
    forged = {"ce-id": "forged", "ce-source": "urn:a", "ce-type": "revoked", "ce-subject": "another"}
    assert post(receiver, event("1"), **forged) == 204
    assert [(one.id, one.type, one.subject) for one in handled] == [("1", "t", "k")]
    assert post(receiver, [event("2")], **forged) == 204
    raw = b"\x00\x00\x00\x00\x01abc"
    signed = signed_headers([SECRET], message_id("urn:a", "1", "k"), int(time.time()), raw)
    assert receiver.receive((signed | forged).items(), raw).status == 401
    assert [one.id for one in handled] == ["1", "2"]


def test_no_other_type_in_the_headers_makes_an_event_a_trial() -> None:
    """A binary event's type is not signed; as a challenge or a test it would be acknowledged and never handled."""
    handled: list[str] = []
    raw = b"\x00\x00\x00\x00\x01abc"
    for number, kind in enumerate(sorted(kit.TRIAL_TYPES)):
        signed = signed_headers([SECRET], message_id("urn:a", str(number), "k"), int(time.time()), raw)
        forged = {"ce-id": str(number), "ce-source": "urn:a", "ce-subject": "k", "ce-type": kind}
        receiver = Receiver([SECRET], lambda found: handled.append(found.id))
        assert receiver.receive((signed | forged).items(), raw).status == 204
    assert handled == ["0", "1"]


@pytest.mark.parametrize(("trials", "called"), [(False, 0), (True, 1)])
def test_a_test_event_reaches_the_handler_only_where_that_is_wanted(trials: bool, called: int) -> None:
    """The answer says whether it did; the handler can tell it from business data."""
    handled: list[Event] = []
    body = event("1", trial.SOURCE, type=trial.TEST_TYPE)
    raw = orjson.dumps(body)
    headers = signed_headers([SECRET], named(body), int(time.time()), raw)
    answer = Receiver([SECRET], handled.append, trials=trials).receive(headers.items(), raw)
    assert (answer.status, answer.headers[kit.HANDLED_HEADER]) == (204, str(called))
    assert [one.trial for one in handled] == [True] * called
    assert not events_of(headers | {"webhook-id": named(event("1"))}, orjson.dumps(event("1")))[0].trial


def test_the_kit_knows_trials_by_the_senders_own_names() -> None:
    """It is one file and imports nothing of ours, so they stand there once more."""
    assert {trial.CHALLENGE_TYPE, trial.TEST_TYPE} == kit.TRIAL_TYPES
    assert (kit.TRIAL_SOURCE, kit.CHALLENGE_TYPE) == (trial.SOURCE, trial.CHALLENGE_TYPE)


def test_an_event_whose_handling_fails_comes_again() -> None:
    """An exception of the handler's is not swallowed, and the event is not remembered."""
    failing = [True]
    handled: list[str] = []

    def handle(found: Event) -> None:
        if failing[0]:
            raise ConnectionError("the database is away")
        handled.append(found.id)

    receiver = Receiver([SECRET], handle)
    with pytest.raises(ConnectionError):
        post(receiver, event("1"))
    failing[0] = False
    assert post(receiver, event("1")) == 204
    assert handled == ["1"]


def test_a_refused_event_is_answered_with_422_and_its_reason() -> None:
    """The sender parks it with what the handler said."""

    def handle(_: Event) -> None:
        raise Refuse("证照编号重复")

    raw = orjson.dumps(event("1"))
    headers = signed_headers([SECRET], named(event("1")), int(time.time()), raw)
    answer = Receiver([SECRET], handle).receive(headers.items(), raw)
    assert (answer.status, answer.body.decode()) == (422, "证照编号重复")


@pytest.mark.parametrize("keys", [[], ["whsec_xx"], ["whsk_" + "A" * 44], [SECRET, "hyk_abc"]])
def test_a_receiver_with_a_key_that_is_none_does_not_begin(keys: list[str]) -> None:
    """It would refuse every delivery, and each would be parked."""
    with pytest.raises(ValueError, match="密钥应为"):
        Receiver(keys, lambda _: None)


def test_both_keys_work_while_one_is_changed() -> None:
    """The receiver knows the old and the new one; the sender signs with either or both."""
    receiver = Receiver([OTHER, SECRET], lambda _: None)
    assert post(receiver, event("1"), secrets=[SECRET]) == 204
    assert post(receiver, event("2"), secrets=[OTHER]) == 204
    assert post(Receiver([SECRET], lambda _: None), event("3"), secrets=[OTHER, SECRET]) == 204
    assert post(Receiver([SECRET], lambda _: None), event("4"), secrets=[OTHER]) == 401


def test_what_is_signed_but_no_event_is_refused() -> None:
    """400, so that it is parked and seen, not retried for ever."""
    receiver = Receiver([SECRET], lambda _: None)
    for body in ("text", 1, [1], {"id": "1"}, None):
        assert post(receiver, body) == 400
    assert post(Receiver([SECRET], lambda _: None, max_body_bytes=10), event("1")) == 413


def test_a_binary_avro_event_is_given_as_bytes_with_its_attributes() -> None:
    """Attributes come in ce- headers, percent-encoded as the HTTP binding wants them."""
    handled: list[Event] = []
    raw = b"\x00\x00\x00\x00\x01abc"
    headers = signed_headers([SECRET], message_id("urn:a", "1", "川 1"), int(time.time()), raw) | {
        "Ce-Id": "1",
        "Ce-Source": "urn:a",
        "Ce-Type": "t",
        "Ce-Subject": "%E5%B7%9D%201",
        "hongyan-cursor": "7",
    }
    assert Receiver([SECRET], handled.append).receive(headers.items(), raw).status == 204
    assert (handled[0].data, handled[0].subject, handled[0].cursor) == (raw, "川 1", 7)


def test_what_was_handled_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """With the file; memory forgets."""
    for seen in (SqliteSeen(str(tmp_path / "seen.db")), SqliteSeen(str(tmp_path / "seen.db"))):
        handled: list[str] = []
        assert post(Receiver([SECRET], lambda e, into=handled: into.append(e.id), seen), event("1")) == 204  # type: ignore[misc]
        seen.close()
    assert handled == []
    assert not MemorySeen().has("evt_1")


WORKER = """
import sys
from consumers.receiver.kit import Receiver, SqliteSeen
from schemas.envelope import message_id
from services.delivery.signing import signed_headers

key, folder, body = sys.argv[1:]
sys.stdin.readline()

def handle(event):
    with open(f"{folder}/handled", "a") as handled:
        handled.write(event.id + "\\n")

receiver = Receiver([key], handle, SqliteSeen(f"{folder}/seen.db"), clock=lambda: 1000.0)
for number in range(40):
    one = body.replace("NUMBER", str(number)).encode()
    headers = signed_headers([key], message_id("urn:a", str(number), "k"), 1000, one)
    assert receiver.receive(headers.items(), one).status == 204
"""


def test_several_processes_handle_an_event_once_between_them(tmp_path: Path) -> None:
    """Both are delivered all events at the same moments, as when the first answer was lost."""
    SqliteSeen(str(tmp_path / "seen.db")).close()
    body = orjson.dumps(event("NUMBER")).decode()
    command = [sys.executable, "-c", WORKER, SECRET, str(tmp_path), body]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.wait(60) for worker in workers] == [0, 0]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    handled = (tmp_path / "handled").read_text().split()
    assert sorted(map(int, handled)) == list(range(40))


def test_an_event_twice_in_one_batch_is_handled_once() -> None:
    """Also where the batch itself repeats it."""
    handled: list[str] = []
    receiver = Receiver([SECRET], lambda one: handled.append(one.id))
    assert post(receiver, [event("1"), event("1")]) == 204
    assert handled == ["1"]


def test_verification_names_what_is_wrong() -> None:
    """For whoever looks into the receiver's log."""
    headers = signed_headers([SECRET], "m", 1000, b"body")
    assert verify([SECRET], headers, b"body", 1000.0) == "m"
    for changed, body, now, word in (
        ({}, b"other", 1000.0, "签名"),
        ({}, b"body", 1301.0, "时间戳"),
        ({"webhook-signature": "v2,x v1"}, b"body", 1000.0, "签名"),
        ({"webhook-timestamp": "soon"}, b"body", 1000.0, "缺少"),
    ):
        with pytest.raises(Untrusted, match=word):
            verify([SECRET], headers | changed, body, now)


def test_the_kit_needs_nothing_but_the_standard_library() -> None:
    """It can be copied as one file; cryptography is imported only where an ed25519 key is used."""
    tree = ast.parse(Path(kit.__file__).read_text(encoding="utf-8"))
    named = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert named <= set(sys.stdlib_module_names) | {"__future__"}
