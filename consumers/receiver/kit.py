"""The receiver's kit: verify, deduplicate, acknowledge. One file, standard library only: copy it, or import it.

It works under any framework, because it takes what every one has (header names and values, the body's bytes) and
returns a status, headers and a body. A framework's route is four lines (docs/receive.md); :class:`WsgiApp` is one for
plain WSGI. ed25519 keys (``whpk_``) need the package ``cryptography``; ``whsec_`` keys need nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

TOLERANCE_S = 5 * 60
KEY_KINDS = frozenset({"whsec", "whpk"})
KEY_BYTES = 16
MAX_BODY_BYTES = 8 * 1024 * 1024
AVRO_MARK = b"\0"
CHALLENGE_TYPE = "cn.gov.sc.hongyan.endpoint.challenged"
TRIAL_TYPES = frozenset({CHALLENGE_TYPE, "cn.gov.sc.hongyan.delivery.tested"})
TRIAL_SOURCE = "urn:hongyan:delivery"
HANDLED_HEADER = "hongyan-handled"


class Untrusted(Exception):  # noqa: N818  (the request is)
    """The request is not a genuine delivery; the message says why."""


class Refuse(Exception):  # noqa: N818  (an instruction, raised by the handler)
    """Raised by a handler: this event can never be taken. It is parked until people have settled why."""


@dataclass(frozen=True)
class Event:
    """One event. ``data`` is the JSON value, or the bytes of a binary one; ``cursor`` is its place in the feed.

    ``key`` stands for its identity (source, id, subject); a request of one event has it as ``webhook-id``.
    """

    id: str
    source: str
    type: str
    subject: str
    data: Any
    cursor: int
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return what to tell repetitions by: ``evt_`` and 32 hex digits."""
        identity = f"{self.source}\0{self.id}\0{self.subject}".encode()
        return f"evt_{hashlib.blake2b(identity, digest_size=16).hexdigest()}"

    @property
    def trial(self) -> bool:
        """Tell whether it is made up to try a receiver with, and carries no business data.

        Its source says so, which is signed in every format; a binary event's type is not.
        """
        return self.source == TRIAL_SOURCE


@dataclass(frozen=True)
class Answer:
    """What to answer with."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Seen(Protocol):
    """Remembers which events were handled, by :attr:`Event.key`."""

    def turn(self) -> AbstractContextManager[object]:
        """Be the only one, of all that share this memory, until the block ends: in it the event is looked up, handled
        and added, so that two deliveries of one event at the same moment don't both find it new.
        """
        ...

    def has(self, key: str) -> bool:
        """Tell whether it was handled before."""
        ...

    def add(self, key: str) -> None:
        """Remember it; called once its handler has returned."""
        ...


class MemorySeen:
    """Remembers in memory: for tries, since a restart forgets."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def turn(self) -> AbstractContextManager[object]:
        """Be the only thread until the block ends."""
        return self._one_at_a_time

    def has(self, key: str) -> bool:
        """Tell whether it was handled before."""
        return key in self._seen

    def add(self, key: str) -> None:
        """Remember it."""
        self._seen.add(key)


class SqliteSeen:
    """Remembers in a file that outlives restarts, for all threads and processes of one machine that open it.

    In your own database, add the row in your handler's transaction.
    """

    def __init__(self, path: str, patience_s: float = 60.0) -> None:
        """Whoever has waited ``patience_s`` for its turn gets sqlite3.OperationalError."""
        self._connection = sqlite3.connect(path, patience_s, isolation_level=None, check_same_thread=False)
        self._one_at_a_time = threading.Lock()
        self._connection.execute("CREATE TABLE IF NOT EXISTS handled (key TEXT PRIMARY KEY) WITHOUT ROWID")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only thread and process until the block ends; what it added is in the file then."""
        with self._one_at_a_time:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def has(self, key: str) -> bool:
        """Tell whether it was handled before."""
        return self._connection.execute("SELECT 1 FROM handled WHERE key = ?", (key,)).fetchone() is not None

    def add(self, key: str) -> None:
        """Remember it."""
        self._connection.execute("INSERT OR IGNORE INTO handled VALUES (?)", (key,))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def check_keys(keys: Sequence[str]) -> None:
    """Raise ValueError for what can be no key, and where there is none: every delivery would be refused, and parked."""
    for key in keys or [""]:
        kind, _, encoded = key.partition("_")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            raw = b""
        if kind not in KEY_KINDS or len(raw) < KEY_BYTES:
            raise ValueError("密钥应为登记单位时显示的 whsec_… 或 whpk_… (no key; see where the agency was added)")


def verify(
    keys: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float = TOLERANCE_S
) -> str:
    """Return the webhook's id if one of the keys signed it and it is fresh; raises Untrusted. Header names lower case.

    While a key is being changed give both: the old one and the new one.
    """
    try:
        message_id, sent_at = headers["webhook-id"], int(headers["webhook-timestamp"])
        given = headers["webhook-signature"].split()
    except (KeyError, ValueError):
        raise Untrusted("缺少 webhook-id、webhook-timestamp 或 webhook-signature (a header is missing)") from None
    if abs(now_s - sent_at) > tolerance_s:
        raise Untrusted("时间戳过旧或过新，核对本机时钟 (timestamp too old or too far ahead; check the clock)")
    signed = f"{message_id}.{sent_at}.".encode() + body
    if not any(_signed_by(key, one, signed) for key in keys for one in given):
        raise Untrusted("签名不符，核对密钥 (no signature fits; check the key)")
    return message_id


def _signed_by(key: str, given: str, signed: bytes) -> bool:
    version, _, text = given.partition(",")
    kind, _, encoded = key.rpartition("_")
    raw = base64.b64decode(encoded)
    if kind == "whpk":
        return version == "v1a" and _ed25519(raw, text, signed)
    expected = base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest())
    return version == "v1" and hmac.compare_digest(expected, text.encode())


def _ed25519(public: bytes, text: str, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(text), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def events_of(headers: Mapping[str, str], body: bytes) -> list[Event]:
    """Read a verified request: structured JSON, a JSON batch, or a binary event; raises ValueError for others.

    Raises Untrusted where a single event is not the one that was signed: headers other than ``webhook-…`` can be
    changed on the way. Which kind it is the body says, which is signed.
    """
    cursor = int(headers.get("hongyan-cursor", "0"))
    if body.startswith(AVRO_MARK):
        attributes = {n.removeprefix("ce-"): unquote(v) for n, v in headers.items() if n.startswith("ce-")}
        return [_signed(headers, _event(attributes, body, cursor))]
    found = json.loads(body)
    listed = found if isinstance(found, list) else [found]
    try:
        events = [_event({n: v for n, v in one.items() if n != "data"}, one.get("data"), cursor) for one in listed]
    except AttributeError:
        raise ValueError("no CloudEvent") from None
    return events if isinstance(found, list) else [_signed(headers, events[0])]


def _signed(headers: Mapping[str, str], event: Event) -> Event:
    if headers.get("webhook-id") != event.key:
        raise Untrusted(
            "webhook-id 不是这个事件的，途中被改过 (webhook-id is another event's: it was changed on the way)"
        )
    return event


def _event(attributes: Mapping[str, Any], data: object, cursor: int) -> Event:
    try:
        named = {name: str(attributes[name]) for name in ("id", "source", "type")}
    except KeyError as error:
        raise ValueError(f"no CloudEvent: {error} is missing") from None
    return Event(**named, subject=str(attributes.get("subject", "")), data=data, cursor=cursor, attributes=attributes)


class Receiver:
    """Receives for one agency.

    ``handle`` is called once for each event, in order for each business key. What it raises is the answer: Refuse parks
    the event (422); any other exception is yours (a 500 by your framework) and the event comes again.

    Challenges and test events are answered without it, unless ``trials`` wants them handled as well: then a check
    measures your handler too. Tell them by :attr:`Event.trial`; a challenge is answered by the kit alone.
    """

    def __init__(
        self,
        keys: Sequence[str],
        handle: Callable[[Event], None],
        seen: Seen | None = None,
        clock: Callable[[], float] = time.time,
        max_body_bytes: int = MAX_BODY_BYTES,
        *,
        trials: bool = False,
    ) -> None:
        """Raises ValueError where a key is none."""
        check_keys(keys)
        self._keys = keys
        self._handle = handle
        self._seen = seen or MemorySeen()
        self._clock = clock
        self._trials = trials
        self.max_body_bytes = max_body_bytes

    def receive(self, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
        """Take one request in and return what to answer."""
        names = {name.lower(): value for name, value in headers}
        if len(body) > self.max_body_bytes:
            return _answer(413, "正文过大 (the body is too large)")
        try:
            verify(self._keys, names, body, self._clock())
            events = events_of(names, body)
        except Untrusted as error:
            return _answer(401, str(error))
        except ValueError as error:
            return _answer(400, f"不是 CloudEvents (no CloudEvents): {error}")
        if len(events) == 1 and events[0].trial and events[0].type == CHALLENGE_TYPE:
            return _challenge(events[0])
        return self._take(events)

    def _take(self, events: Sequence[Event]) -> Answer:
        repeated = handled = 0
        for event in events:
            with self._seen.turn():
                if self._seen.has(event.key):
                    repeated += 1
                    continue
                try:
                    if self._handles(event):
                        self._handle(event)
                        handled += 1
                except Refuse as error:
                    return _answer(422, str(error))
                self._seen.add(event.key)
        return Answer(204, {"hongyan-repeated": str(repeated), HANDLED_HEADER: str(handled)})

    def _handles(self, event: Event) -> bool:
        return self._trials or not (event.trial and event.type in TRIAL_TYPES)


def _challenge(event: Event) -> Answer:
    """Show that we are reached and have verified: echo the word."""
    word = event.data["challenge"] if isinstance(event.data, dict) else _avro_text(event.data)
    return Answer(200, {"content-type": "application/json"}, json.dumps({"challenge": word}).encode())


def _avro_text(value: bytes) -> str:
    """Return the first field, a string, of a value in the Confluent wire format."""
    at, shift, length = 5, 0, 0
    while True:
        byte = value[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value[at : at + (length >> 1)].decode()


def _answer(status: int, text: str) -> Answer:
    return Answer(status, {"content-type": "text/plain; charset=utf-8"}, text.encode())


class WsgiApp:
    """A receiver as a plain WSGI application."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] != "POST":
            start_response("405 Method Not Allowed", [("Allow", "POST"), ("Content-Length", "0")])
            return [b""]
        headers = [(n[5:].replace("_", "-"), str(v)) for n, v in environ.items() if n.startswith("HTTP_")]
        # One byte more than is taken tells that it is too large; the rest is not brought into memory.
        size = min(int(environ.get("CONTENT_LENGTH") or 0), self._receiver.max_body_bytes + 1)
        body = environ["wsgi.input"].read(size)
        answer = self._receiver.receive(headers, body)
        length = ("Content-Length", str(len(answer.body)))
        start_response(f"{answer.status} -", [*answer.headers.items(), length])
        return [answer.body]
