"""One attempt at a real receiver on loopback, for every answer and every fault of the connection."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.abc import ResolveResult

from schemas.codec import Codec, Decoded
from schemas.content import ContentDigester
from schemas.envelope import message_id
from services.delivery.message import Message, Post, batch, message_of, single
from services.delivery.network import parse_networks
from services.delivery.outcome import Delivered, Gone, Later, Outcome, Refused
from services.delivery.profile import Bearer, ClientCredentials, Profile, Tls
from services.delivery.receiver import LiveKey, Receiver
from services.delivery.retry import RetryPolicy
from services.delivery.sender import Lookup, Sender
from services.delivery.signing import new_private_key, public_key, verify
from services.delivery.trial import Trial
from services.portal.web.plain_words import in_language
from tests import faults
from tests.certificates import Authority, server_context
from tests.configuration import SECRET
from tests.faults import Behaviour, Reader, Writer, answering, port_of, raw, request_of, serve

NETWORKS = parse_networks(["127.0.0.1/32"])
PROFILE = Profile(64, 16, 1.0, 0.5, RetryPolicy(1.0, 60.0), 3, 1e9)
MESSAGE = Message("evt_1", "e1", "urn:a", "t", "k", None, b'{"id":"e1"}')
POST = single(MESSAGE, 7)
QUICK_S = 0.3


def receiver_at(port: int, scheme: str = "http", host: str = "127.0.0.1", **profile: Any) -> Receiver:
    """Return a receiver on loopback."""
    return Receiver("a", f"{scheme}://{host}:{port}/x", (LiveKey(SECRET),), replace(PROFILE, **profile))


async def sent(receiver: Receiver, post: Post = POST, lookup: Lookup | None = None) -> Outcome:
    """Make one attempt with a sender of its own."""
    sender = Sender(NETWORKS, lookup)
    try:
        return await sender.send(receiver, post, datetime.now(UTC))
    finally:
        await sender.close()


def attempt(behaviour: Behaviour, **profile: Any) -> Outcome:
    """Attempt a delivery at a receiver that behaves so."""

    async def body() -> Outcome:
        server = await serve(behaviour)
        async with server:
            return await sent(receiver_at(port_of(server), **profile))

    return asyncio.run(body())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_ends_a_delivery(status: int) -> None:
    """Whatever the body is."""
    assert attempt(answering(status, body=b"" if status == 204 else b"fine")) == Delivered(status)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_an_answer_and_are_not_followed(status: int) -> None:
    """They are tried again at the address that was registered."""
    outcome = attempt(answering(status, {"Location": "http://127.0.0.1:1/"}))
    assert isinstance(outcome, Later)
    assert "redirects are not followed" in outcome.reason


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (400, {}, Refused("HTTP 400", 400)),
        (401, {}, Refused("HTTP 401", 401)),
        (404, {}, Later("HTTP 404", 404)),
        (409, {}, Later("HTTP 409", 409)),
        (410, {}, Gone("HTTP 410")),
        (410, {"webhook-delivery": "abort"}, Gone("HTTP 410")),
        (422, {}, Refused("HTTP 422", 422)),
        (422, {"webhook-delivery": "retry"}, Later("HTTP 422", 422)),
        (429, {"Retry-After": "7"}, Later("HTTP 429", 429, 7.0)),
        (500, {}, Later("HTTP 500", 500)),
        (503, {"Retry-After": "3"}, Later("HTTP 503", 503, 3.0)),
        (503, {"Webhook-Delivery": "Abort"}, Refused("HTTP 503, webhook-delivery: abort", 503)),
        (503, {"Webhook-Delivery": "nonsense"}, Later("HTTP 503", 503)),
    ],
)
def test_answers_and_hints_mean_what_the_page_says(status: int, headers: Mapping[str, str], expected: Outcome) -> None:
    """The status, Retry-After, and the hint that gives an event up or wants it again."""
    assert attempt(answering(status, headers)) == expected


def test_what_a_receiver_says_of_a_refusal_is_kept() -> None:
    """The beginning of it, on one line, apart from our own reason: it may say again what stood in the event."""
    said = "证照编号重复\n\x1b[31m" + "。" * 500
    words = ("证照编号重复 [31m" + "。" * 500)[:200]
    assert attempt(answering(422, {}, said.encode())) == Refused("HTTP 422", 422, words=words)
    assert attempt(answering(422, {}, b"\xff\n")) == Refused("HTTP 422", 422, words="\ufffd")
    assert attempt(answering(422, {}, b" \n")) == Refused("HTTP 422", 422)


FAULTS: Mapping[str, Behaviour] = {
    "closes at once": faults.closes_at_once,
    "resets": faults.resets,
    "never answers": faults.never_answers,
    "never reads": faults.never_reads,
    "half a status line": raw(b"HTTP/1.1 2"),
    "half a head": raw(b"HTTP/1.1 204 No Content\r\nContent-Le"),
    "no HTTP": raw(b"220 mail.example ESMTP\r\n"),
    "an impossible status": raw(b"HTTP/1.1 999999 -\r\n\r\n"),
    "a head without end": raw(b"HTTP/1.1 204 -\r\nx: " + b"y" * 100_000),
    "chunks that are none": raw(b"HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "trickles its head": faults.trickles_its_head,
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_the_connection_means_later_and_never_an_exception(name: str) -> None:
    """The event is tried again; the time-out holds even where bytes still come."""
    began = time.monotonic()
    outcome = attempt(FAULTS[name], timeout_s=QUICK_S)
    assert isinstance(outcome, Later), outcome
    assert outcome.reason
    assert time.monotonic() - began < QUICK_S + 2


@pytest.mark.parametrize(
    ("name", "behaviour"),
    [
        ("half a body", raw(b"HTTP/1.1 200 -\r\nContent-Length: 1000\r\n\r\nabc")),
        ("trickles its body", faults.trickles_its_body),
        ("floods", faults.floods),
    ],
)
def test_once_2xx_is_said_the_body_cannot_undo_it(name: str, behaviour: Behaviour) -> None:
    """A truncated, endless or huge body costs the connection and at most a second."""
    began = time.monotonic()
    assert attempt(behaviour, timeout_s=5.0) == Delivered(200), name
    assert time.monotonic() - began < 3


def several(behaviour: Behaviour, receiver: Callable[[int], Receiver], count: int) -> list[Outcome]:
    """Attempt deliveries one after the other with one sender."""

    async def body() -> list[Outcome]:
        server, sender = await serve(behaviour), Sender(NETWORKS)
        async with server:
            found = [await sender.send(receiver(port_of(server)), POST, datetime.now(UTC)) for _ in range(count)]
            await sender.close()
        return found

    return asyncio.run(body())


def test_a_connection_is_kept_and_every_request_is_whole_on_it() -> None:
    """The address's query and password stand in each, and interim answers are passed over."""
    connections: list[int] = []
    requests: list[tuple[str, dict[str, str], bytes]] = []

    async def behave(reader: Reader, writer: Writer) -> None:
        connections.append(1)
        while True:
            requests.append(await request_of(reader))
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 -\r\nContent-Length: 2\r\n\r\nok")

    def with_password(port: int) -> Receiver:
        return replace(receiver_at(port), sink=f"http://me:word@127.0.0.1:{port}/鸿雁?a=1&b=%20#part")

    assert several(behave, with_password, 3) == [Delivered(200)] * 3
    assert len(connections) == 1
    for path, headers, body in requests:
        assert (path, body) == ("/%E9%B8%BF%E9%9B%81?a=1&b=%20", POST.body)
        assert headers["authorization"] == "Basic bWU6d29yZA=="
        assert (headers["user-agent"], headers["content-type"]) == ("hongyan", POST.content_type)
        assert headers["host"].startswith("127.0.0.1:")


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_events() -> None:
    """A receiver that answers one request twice would otherwise end an event that it has not accepted."""

    async def body() -> list[Outcome]:
        twice = asyncio.Event()

        async def behave(reader: Reader, writer: Writer) -> None:
            await request_of(reader)
            for _ in range(2):
                writer.write(b"HTTP/1.1 204 -\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
            twice.set()
            await answering(422)(reader, writer)

        server, sender = await serve(behave), Sender(NETWORKS)
        async with server:
            first = await sender.send(receiver_at(port_of(server)), POST, datetime.now(UTC))
            await twice.wait()
            second = await sender.send(receiver_at(port_of(server)), POST, datetime.now(UTC))
            await sender.close()
        return [first, second]

    first, second = asyncio.run(body())
    assert first == Delivered(204)
    assert second == Later("对方断开了连接 (the receiver closed the connection)")


def test_a_header_that_would_be_two_is_never_sent() -> None:
    """An attribute of a publisher's can't write headers of its own."""
    post = replace(POST, headers={"tracestate": "a=b\r\nAuthorization: Basic eA=="})
    outcome = asyncio.run(sent(receiver_at(1), post))
    assert isinstance(outcome, Later)
    assert "line break" in outcome.reason


def test_a_closed_port_and_a_name_without_address_mean_later() -> None:
    """Refused, and unknown to the resolver."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    async def unknown(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        raise OSError(f"{host}: Name or service not known")

    at = f"127.0.0.1:{port}"
    refused = f"连接不上 {at}，没有程序在听 (can't connect to {at}: Connection refused)"
    assert asyncio.run(sent(receiver_at(port))) == Later(refused)
    outcome = asyncio.run(sent(receiver_at(80, host="nowhere.example"), lookup=unknown))
    assert outcome == Later("域名 nowhere.example 解析不了 (nowhere.example can't be resolved)")


FAULT_WORDS = {
    "closes at once": "对方断开了连接 (the receiver closed the connection)",
    "resets": "对方断开了连接 (the receiver closed the connection)",
    "no HTTP": "应答不是 HTTP (the answer is not HTTP)",
    "never answers": "超时 (timed out)",
}


@pytest.mark.parametrize("name", FAULT_WORDS)
def test_what_goes_wrong_with_a_connection_is_told_in_plain_words(name: str) -> None:
    """At the terminal, by mail and on every page alike: in both languages, without a library's names."""
    assert attempt(FAULTS[name], timeout_s=QUICK_S) == Later(FAULT_WORDS[name])


def addresses(*answers: str) -> tuple[Lookup, list[str]]:
    """Return a resolver that gives these addresses one after the other, and the names that it was asked for."""
    left, asked = list(answers), []

    async def lookup(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        asked.append(host)
        address = left.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    return lookup, asked


def test_a_name_that_changes_its_address_is_checked_at_every_connection() -> None:
    """The second answer is a forbidden address with a real server behind it, and gets not even a connection."""
    connections: list[str] = []

    def noting(name: str) -> Callable[[Reader, Writer], Awaitable[None]]:
        async def behave(reader: Reader, writer: Writer) -> None:
            connections.append(name)
            await answering(204, {"Connection": "close"})(reader, writer)

        return behave

    async def body() -> list[Outcome]:
        allowed = await serve(noting("allowed"))
        port = port_of(allowed)
        forbidden = await asyncio.start_server(noting("forbidden"), "127.0.0.2", port)
        lookup, asked = addresses("127.0.0.1", "127.0.0.2", "127.0.0.1")
        sender = Sender(NETWORKS, lookup)
        async with allowed, forbidden:
            receiver = receiver_at(port, host="rebinding.example")
            found = [await sender.send(receiver, POST, datetime.now(UTC)) for _ in range(3)]
        await sender.close()
        assert asked == ["rebinding.example"] * 3
        return found

    first, second, third = asyncio.run(body())
    assert (first, third) == (Delivered(204), Delivered(204))
    assert isinstance(second, Later)
    assert "127.0.0.2" in second.reason
    assert connections == ["allowed", "allowed"]


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "[::ffff:127.0.0.2]", "0x7f.2", "127。0。0。2", "１２７.0.0.2"])
def test_addresses_in_any_notation_are_checked(host: str) -> None:
    """Written into the URL, as IPv6, as one number: none gets past the allow-list."""
    outcome = asyncio.run(sent(receiver_at(80, host=host)))
    assert isinstance(outcome, Later)
    assert "outside the allowed networks" in outcome.reason


async def at_tls(context: ssl.SSLContext, tls: Tls | None, host: str = "127.0.0.1") -> Outcome:
    """Attempt a delivery at a TLS server."""
    server = await serve(answering(204), context)
    lookup, _ = addresses("127.0.0.1")
    async with server:
        return await sent(receiver_at(port_of(server), "https", host, tls=tls), lookup=lookup)


def test_a_certificate_is_checked_against_the_agencys_authority(tmp_path: Path) -> None:
    """Its own authority is trusted; another's, an expired one and another host's name are not."""
    ours, theirs = Authority("ours"), Authority("theirs")
    good = server_context(ours.issue("127.0.0.1"), tmp_path)
    assert asyncio.run(at_tls(good, Tls(ca=ours.pem))) == Delivered(204)
    for context, tls, host in (
        (good, Tls(ca=theirs.pem), "127.0.0.1"),
        (good, None, "127.0.0.1"),
        (good, Tls(ca=ours.pem), "other.example"),
        (
            server_context(ours.issue("127.0.0.1", lasts=-timedelta(days=1)), tmp_path),
            Tls(ca=ours.pem),
            "127.0.0.1",
        ),
    ):
        outcome = asyncio.run(at_tls(context, tls, host))
        assert isinstance(outcome, Later)
        assert outcome.reason.startswith("接收端的证书没有通过验证 (its certificate is refused: ")


def test_a_receiver_that_asks_for_our_certificate_gets_it(tmp_path: Path) -> None:
    """Mutual TLS: with the right certificate it is delivered; without one, or with another's, it is not."""
    servers, clients, strangers = Authority("servers"), Authority("clients"), Authority("strangers")
    context = server_context(servers.issue("127.0.0.1"), tmp_path, clients)
    ours = clients.issue("hongyan", client=True)
    wrong = strangers.issue("hongyan", client=True)
    mutual = Tls(ca=servers.pem, certificate=ours.certificate, private_key=ours.private_key)
    assert asyncio.run(at_tls(context, mutual)) == Delivered(204)
    foreign = Tls(ca=servers.pem, certificate=wrong.certificate, private_key=wrong.private_key)
    for tls in (Tls(ca=servers.pem), foreign):
        assert isinstance(asyncio.run(at_tls(context, tls)), Later)


def test_plain_http_behind_an_https_address_means_later() -> None:
    """TLS fails, and nothing was sent in the clear."""
    seen: list[bytes] = []

    async def behave(reader: Reader, writer: Writer) -> None:
        seen.append(await reader.read(1000))

    async def body() -> Outcome:
        server = await serve(behave)
        async with server:
            return await sent(receiver_at(port_of(server), "https"))

    assert isinstance(asyncio.run(body()), Later)
    assert b"e1" not in b"".join(seen)


class TokenServer:
    """An OAuth2 token server and a receiver that takes its newest token only."""

    def __init__(self, expires_in: float | None = 3600.0) -> None:
        self.expires_in = expires_in
        self.given: list[str] = []
        self.forms: list[bytes] = []
        self.status = 200
        self.hangs = False
        self.lists = False
        self.accepts: Callable[[str], bool] = lambda token: token == f"Bearer {self.given[-1]}"

    async def behave(self, reader: Reader, writer: Writer) -> None:
        """Give a token, or take a delivery."""
        path, headers, body = await request_of(reader)
        if self.hangs:
            await reader.read()
        elif path == "/token":
            self.forms.append(body)
            self.given.append(f"t{len(self.given)}")
            document = {"access_token": self.given[-1], "expires_in": self.expires_in}
            answer = json.dumps([document] if self.lists else document).encode()
            head = f"HTTP/1.1 {self.status} -\r\nConnection: close\r\n"
            if "gzip" in headers.get("accept-encoding", ""):
                # As many web servers do for whoever says to understand it.
                answer, head = gzip.compress(answer), f"{head}Content-Encoding: gzip\r\n"
            head = f"{head}Content-Length: {len(answer)}\r\n\r\n"
            body = answer if self.status == 200 else b"x" * len(answer)
            # In two pieces, the second when the first has been read: no answer is sure to come whole.
            writer.write(head.encode() + body[:9])
            await writer.drain()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            writer.write(body[9:])
        else:
            good = self.accepts(headers.get("authorization", ""))
            writer.write(f"HTTP/1.1 {204 if good else 401} -\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


def with_tokens(
    server: TokenServer,
    use: Callable[[Sender, Receiver], Awaitable[None]],
    tls: tuple[object, Tls] | None = None,
    **profile: Any,
) -> None:
    """Use a sender with OAuth2 client credentials against the server, over TLS if wanted."""

    async def body() -> None:
        running = await serve(server.behave, tls[0] if tls else None)
        port, scheme = port_of(running), "https" if tls else "http"
        auth = ClientCredentials(
            token_url=f"{scheme}://127.0.0.1:{port}/token", client_id="hongyan", client_secret="geheim", scope="push"
        )
        sender = Sender(NETWORKS)
        async with running:
            await use(sender, receiver_at(port, scheme, auth=auth, tls=tls[1] if tls else None, **profile))
        await sender.close()

    asyncio.run(body())


def test_a_token_is_fetched_once_kept_and_shown_with_every_delivery() -> None:
    """Twenty deliveries at once need one token; the form is RFC 6749's."""
    server = TokenServer()

    async def use(sender: Sender, receiver: Receiver) -> None:
        now = datetime.now(UTC)
        outcomes = await asyncio.gather(*(sender.send(receiver, POST, now) for _ in range(20)))
        assert outcomes == [Delivered(204)] * 20

    with_tokens(server, use)
    assert server.given == ["t0"]
    assert server.forms[0] == b"grant_type=client_credentials&client_id=hongyan&client_secret=geheim&scope=push"


def test_a_token_server_is_trusted_by_the_agencys_authority_and_may_leave_the_lifetime_open(tmp_path: Path) -> None:
    """Only its own authority has signed for it; `expires_in` is null."""
    server, ours = TokenServer(expires_in=None), Authority("ours")

    async def use(sender: Sender, receiver: Receiver) -> None:
        assert await sender.send(receiver, POST, datetime.now(UTC)) == Delivered(204)

    with_tokens(server, use, (server_context(ours.issue("127.0.0.1"), tmp_path), Tls(ca=ours.pem)))
    assert server.given == ["t0"]


def test_a_token_server_that_hangs_costs_each_attempt_no_more_than_its_time() -> None:
    """Sixteen at once wait for one token, and none of them longer than the agency's time-out."""
    server = TokenServer()
    server.hangs = True

    async def use(sender: Sender, receiver: Receiver) -> None:
        began = time.monotonic()
        outcomes = await asyncio.gather(*(sender.send(receiver, POST, datetime.now(UTC)) for _ in range(16)))
        assert outcomes == [Later("超时 (timed out)")] * 16
        assert time.monotonic() - began < QUICK_S + 1

    with_tokens(server, use, timeout_s=QUICK_S)


def test_a_token_is_renewed_before_it_ends() -> None:
    """One that lasts a moment is fetched again for a later delivery."""
    server = TokenServer(expires_in=0.02)

    async def use(sender: Sender, receiver: Receiver) -> None:
        assert await sender.send(receiver, POST, datetime.now(UTC)) == Delivered(204)
        await asyncio.sleep(0.05)
        assert await sender.send(receiver, POST, datetime.now(UTC)) == Delivered(204)

    with_tokens(server, use)
    assert server.given == ["t0", "t1"]


def test_a_token_that_was_withdrawn_parks_nothing_and_is_fetched_anew() -> None:
    """401 is about the token, not about the event: later, and with a new token."""
    server = TokenServer()
    server.accepts = lambda token: token == "Bearer t1"

    async def use(sender: Sender, receiver: Receiver) -> None:
        assert await sender.send(receiver, POST, datetime.now(UTC)) == Later("HTTP 401", 401)
        assert await sender.send(receiver, POST, datetime.now(UTC)) == Delivered(204)

    with_tokens(server, use)


def test_a_token_server_that_gives_none_means_later() -> None:
    """Its status is told; nothing is sent without a token."""
    server = TokenServer()
    server.status = 500

    async def use(sender: Sender, receiver: Receiver) -> None:
        outcome = await sender.send(receiver, POST, datetime.now(UTC))
        assert isinstance(outcome, Later)
        assert "HTTP 500" in outcome.reason
        server.status, server.lists = 200, True
        listed = await sender.send(receiver, POST, datetime.now(UTC))
        assert isinstance(listed, Later)
        assert "没有给出令牌" in listed.reason
        elsewhere = replace(
            receiver.profile,
            auth=ClientCredentials(token_url="http://127.0.0.2:1/token", client_id="x", client_secret="y"),
        )
        outside = await sender.send(replace(receiver, profile=elsewhere), POST, datetime.now(UTC))
        assert isinstance(outside, Later)
        assert "outside the allowed networks" in outside.reason

    with_tokens(server, use)


def requests_of(post: Post, *secrets: LiveKey, **profile: Any) -> tuple[dict[str, str], bytes]:
    """Deliver once, and return the headers and body that came."""
    found: list[tuple[str, dict[str, str], bytes]] = []

    async def behave(reader: Reader, writer: Writer) -> None:
        found.append(await request_of(reader))
        writer.write(b"HTTP/1.1 204 -\r\n\r\n")
        await writer.drain()

    async def body() -> None:
        server = await serve(behave)
        async with server:
            receiver = replace(receiver_at(port_of(server), **profile), keys=secrets or (LiveKey(SECRET),))
            assert await sent(receiver, post) == Delivered(204)

    asyncio.run(body())
    return found[0][1], found[0][2]


def test_two_live_keys_sign_side_by_side_and_one_that_has_ended_does_not() -> None:
    """HMAC and ed25519 together; each receiver verifies with what it has."""
    now = datetime.now(UTC)
    other, private = "whsec_" + "A" * 32, new_private_key()
    ended = LiveKey("whsec_" + "B" * 32, now - timedelta(seconds=1))
    headers, body = requests_of(
        POST, ended, LiveKey(SECRET, now + timedelta(hours=1)), LiveKey(other), LiveKey(private)
    )
    kinds = [one.split(",")[0] for one in headers["webhook-signature"].split()]
    assert kinds == ["v1", "v1", "v1a"]
    for key in (SECRET, other, public_key(private)):
        assert verify(key, headers, body, now.timestamp()) == "evt_1"


def test_without_a_live_key_nothing_goes_out_and_the_event_waits() -> None:
    """The last one has ended by the clock: refused for want of a signature, event after event would be parked."""
    asked: list[bytes] = []

    async def behave(reader: Reader, writer: Writer) -> None:
        asked.append(await reader.read(1))

    async def body() -> Outcome:
        server = await serve(behave)
        async with server:
            ended = LiveKey(SECRET, datetime.now(UTC) - timedelta(seconds=1))
            return await sent(replace(receiver_at(port_of(server)), keys=(ended,)))

    outcome = asyncio.run(body())
    assert isinstance(outcome, Later)
    assert ("rotate-key" in outcome.reason, asked) == (True, [])


def test_no_compressed_answer_is_asked_for() -> None:
    """A receiver's words are kept as they come."""
    assert requests_of(POST)[0]["accept-encoding"] == "identity"


def test_a_fixed_token_is_shown() -> None:
    """For receivers behind a gateway that wants one."""
    headers, _ = requests_of(POST, auth=Bearer(token="abc"))
    assert headers["authorization"] == "Bearer abc"


def test_a_batch_is_a_cloudevents_batch_under_one_stable_id() -> None:
    """Its id is made of the events' ids, so that the same batch again has the same one."""
    other = replace(MESSAGE, id="evt_2", event_id="e2", body=b'{"id":"e2"}')
    headers, body = requests_of(batch([MESSAGE, other], 9))
    assert [event["id"] for event in orjson.loads(body)] == ["e1", "e2"]
    assert headers["content-type"].startswith("application/cloudevents-batch+json")
    assert headers["hongyan-cursor"] == "9"
    assert verify(SECRET, headers, body, time.time()) == headers["webhook-id"]
    assert batch([MESSAGE, other], 9).webhook_id == headers["webhook-id"] != batch([MESSAGE], 9).webhook_id


def test_binary_avro_is_the_records_own_bytes_with_percent_encoded_attributes() -> None:
    """Any Confluent client can read the body; the attributes are in ce- headers."""
    headers = [("ce_id", b"e1"), ("ce_subject", "（川）1 %".encode()), ("content-type", b"x"), ("hongyan-reason", b"m")]
    message = message_of(headers, b"\x00\x00\x00\x00\x01z", lambda _: Decoded(1, "t", {}, ContentDigester({})), "avro")
    assert single(message, 9).webhook_id == message_id("", "e1", "（川）1 %")
    came, body = requests_of(single(message, 1))
    assert body == b"\x00\x00\x00\x00\x01z"
    assert came["content-type"] == "application/vnd.confluent.avro"
    assert (came["ce-id"], came["ce-subject"]) == ("e1", "%EF%BC%88%E5%B7%9D%EF%BC%891%20%25")
    assert "hongyan-reason" not in came


class NoCodec(Codec):
    """A codec that JSON receivers never need."""

    def __init__(self) -> None:
        """Know no schemas."""


def trial(behaviour: Behaviour, what: str) -> Any:
    """Try a receiver that behaves so."""

    async def body() -> Any:
        server = await serve(behaviour)
        async with server:
            found = Trial(NETWORKS, NoCodec())
            return await getattr(found, what)(receiver_at(port_of(server)))

    return asyncio.run(body())


def test_a_challenge_is_passed_by_echoing_it_and_by_nothing_else() -> None:
    """An ordinary 204, a redirect and a wrong word do not verify; the detail says what was expected."""

    async def echoes(reader: Reader, writer: Writer) -> None:
        _, headers, body = await request_of(reader)
        verify(SECRET, headers, body, time.time())
        answer = json.dumps({"challenge": json.loads(body)["data"]["challenge"]}).encode()
        writer.write(f"HTTP/1.1 200 -\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
        await writer.drain()

    assert trial(echoes, "challenge").passed
    for behaviour in (answering(204), answering(302), answering(200, body=b'{"challenge": "x"}'), answering(200)):
        result = trial(behaviour, "challenge")
        assert not result.passed
        assert result.detail


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (
            answering(401, body="签名不符，\n核对密钥".encode()),
            ["HTTP 401", "密钥不符", "wrong key?", "：签名不符， 核对密钥"],
        ),
        (answering(403), ["HTTP 403", "密钥不符"]),
        (answering(404), ["HTTP 404", "此路径没有接收端", "nothing at this path?"]),
        (answering(405), ["HTTP 405", "此路径没有接收端"]),
        (answering(302), ["HTTP 302", "不跟随重定向"]),
        (answering(500, body=b"KeyError"), ["HTTP 500", "处理时出错", "KeyError"]),
        (answering(422), ["HTTP 422", "拒收"]),
        (answering(200, body=b"hello"), ["HTTP 200", "data.challenge", "hello"]),
    ],
)
def test_a_challenge_that_fails_says_why_and_what_to_do(behaviour: Behaviour, told: list[str]) -> None:
    """Not the status alone: its likely cause in both languages, and what the receiver itself said."""
    detail = trial(behaviour, "challenge").detail
    assert [word for word in told if word not in detail] == []
    assert in_language("zh", detail) != detail


def test_a_page_for_a_browser_is_left_out_of_what_is_said_and_a_long_answer_is_marked_as_cut() -> None:
    """Markup would hide the reason; what is left out of an answer is seen to be."""
    assert "<" not in trial(answering(404, body=b"<!doctype html><title>404</title>"), "challenge").detail
    assert trial(answering(401, body=b"x" * 300), "challenge").detail.endswith("x…")


def test_a_trial_delivery_tells_what_came_back() -> None:
    """The status, the time and the beginning of the answer."""
    good = trial(answering(200, body=b"got it"), "test")
    assert (good.passed, good.status, good.answer) == (True, 200, "got it")
    bad = trial(answering(500, body=b"broken"), "test")
    assert (bad.passed, bad.status, bad.answer) == (False, 500, "broken")
    assert "HTTP 500" in bad.detail
    assert "处理时出错" in bad.detail
