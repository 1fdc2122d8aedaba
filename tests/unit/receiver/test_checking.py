"""The check before going live: a sample that passes, and for each check one that fails just that."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterable
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from consumers.receiver.checking import CHECKS, _slow_answer, check
from consumers.receiver.commands import receiver as command
from consumers.receiver.evidence import digest_of
from consumers.receiver.kit import Answer, MemorySeen, Receiver, WsgiApp
from consumers.receiver.probing import Probe
from consumers.receiver.process import serve
from services.delivery.trial import CHALLENGE_TYPE, TEST_TYPE
from tests.certificates import Authority, server_context
from tests.configuration import SECRET
from tests.webservers import serving_wsgi

LIMIT_S = 0.6
Headers = Iterable[tuple[str, str]]


class Flawed(Receiver):
    """The kit's receiver with one flaw."""

    def __init__(self, flaw: str) -> None:
        self.remembered = MemorySeen()
        super().__init__([SECRET], lambda _: None, self.remembered)
        self.flaw = flaw
        self.last = 0
        self.status = 500
        self.pause = threading.Event()
        self.busy = threading.Lock()

    def receive(self, headers: Headers, body: bytes) -> Answer:
        """Answer wrongly where the flaw wants it, else as the kit does."""
        names = {name.lower(): value for name, value in headers}
        return getattr(self, "_" + self.flaw.replace("-", "_"))(names, body) or super().receive(names.items(), body)

    def _challenge(self, names: dict[str, str], body: bytes) -> Answer | None:
        answer = super().receive(names.items(), body)
        return Answer(204) if answer.body.startswith(b'{"challenge"') else answer

    def _accepted(self, names: dict[str, str], body: bytes) -> Answer | None:
        self.last += 1
        return Answer(500) if self.last == 2 else None

    def _duplicate(self, names: dict[str, str], body: bytes) -> Answer | None:
        answer = super().receive(names.items(), body)
        return Answer(409) if answer.headers.get("hongyan-repeated") == "1" else answer

    def _out_of_order(self, names: dict[str, str], body: bytes) -> Answer | None:
        cursor = int(names["hongyan-cursor"])
        earlier, self.last = self.last, max(self.last, cursor)
        return Answer(500) if cursor < earlier else None

    def _bad_signature(self, names: dict[str, str], body: bytes) -> Answer | None:
        first = names.get("webhook-signature", "").split(" ")[0]
        fresh = abs(float(names["webhook-timestamp"]) - self._clock()) < 300
        mine = first and super().receive(names.items(), body).status == 401
        return Answer(204) if mine and fresh else None

    def _old_timestamp(self, names: dict[str, str], body: bytes) -> Answer | None:
        clock, self._clock = self._clock, lambda: float(names["webhook-timestamp"])
        answer = super().receive(names.items(), body)
        self._clock = clock
        return answer

    def _unknown_type(self, names: dict[str, str], body: bytes) -> Answer | None:
        return None if orjson.loads(body).get("type") in {TEST_TYPE, CHALLENGE_TYPE} else Answer(404)

    def _slow_answer(self, names: dict[str, str], body: bytes) -> Answer | None:
        with self.busy:
            self.pause.wait(0.05)
        return None

    def _busy(self, names: dict[str, str], body: bytes) -> Answer | None:
        if not self.busy.acquire(blocking=False):
            return Answer(self.status)
        try:
            self.pause.wait(0.05)
        finally:
            self.busy.release()
        return None

    def _big_body(self, names: dict[str, str], body: bytes) -> Answer | None:
        return Answer(413) if len(body) > 100_000 else None

    def _key_rotation(self, names: dict[str, str], body: bytes) -> Answer | None:
        return super().receive(
            (names | {"webhook-signature": names.get("webhook-signature", "").split(" ")[0]}).items(), body
        )


NAMES = [run.__name__.removeprefix("_").replace("_", "-") for run in CHECKS]


def test_no_proxy_stands_between_the_check_and_the_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real deliveries take none either, whatever the environment of whoever runs the check names."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving_wsgi(WsgiApp(Receiver([SECRET], lambda _: None))) as url:
        assert Probe(url, SECRET, LIMIT_S).challenge("word").json() == {"challenge": "word"}


@pytest.mark.parametrize(("status", "passes"), [(422, False), (410, False), (500, False), (503, True), (429, True)])
def test_a_receiver_that_takes_one_at_a_time_must_ask_for_patience(status: int, passes: bool) -> None:
    """Whoever refuses what comes meanwhile has it parked, or is suspended; 429 and 503 have it sent again."""
    receiver = Flawed("busy")
    receiver.status = status
    with serving_wsgi(WsgiApp(receiver)) as url:
        checked = _slow_answer(Probe(url, SECRET, LIMIT_S))
    assert status in checked.statuses
    assert checked.passed is passes


@pytest.mark.parametrize("flaw", NAMES)
def test_a_receiver_with_one_flaw_fails_just_that_check(flaw: str) -> None:
    """And the detail says what to mend."""
    with serving_wsgi(WsgiApp(Flawed(flaw))) as url:
        results = check(Probe(url, SECRET, LIMIT_S))
    failed = [one for one in results if not one.passed]
    assert [one.name for one in failed] == [flaw]
    assert failed[0].detail
    assert any("一" <= letter <= "鿿" for letter in failed[0].detail)


def test_a_receiver_that_is_not_there_fails_all_and_says_so() -> None:
    """Nothing is passed over because nothing answered."""
    results = check(Probe("http://127.0.0.1:9/", SECRET, LIMIT_S))
    assert not any(one.passed for one in results)
    assert all("没有得到应答" in one.detail for one in results)
    assert all("没有程序在听" in one.detail and "urlopen" not in one.detail for one in results)


def test_a_body_that_is_too_large_is_refused_before_it_is_in_memory() -> None:
    """Whoever sends it need not know our key."""
    stream, said = io.BytesIO(b"x" * 5000), []
    app = WsgiApp(Receiver([SECRET], lambda _: None, max_body_bytes=1000))
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5000", "wsgi.input": stream}
    app(environ, lambda status, _headers: said.append(status))
    assert (said, stream.tell()) == (["413 -"], 1001)


def test_the_command_prints_a_table_and_writes_evidence(tmp_path: Path) -> None:
    """In Chinese, with the digest that the file has; a changed file no longer fits its digest."""
    out = tmp_path / "evidence.json"
    with serving_wsgi(WsgiApp(Receiver([SECRET], lambda _: None))) as url:
        done = CliRunner().invoke(command, ["check", url, "--secret", SECRET, "--out", str(out)])
    assert done.exit_code == 0, done.output
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["passed"]
    assert document["digest"] == digest_of(document)
    assert document["digest"] in done.output
    assert "重复投递" in done.output
    assert SECRET not in out.read_text(encoding="utf-8")
    document["checks"][0]["passed"] = False
    assert document["digest"] != digest_of(document)


def test_the_command_ends_with_1_where_a_check_fails() -> None:
    """So that a script sees it; the table says what to mend."""
    with serving_wsgi(WsgiApp(Flawed("duplicate"))) as url:
        done = CliRunner().invoke(command, ["check", url, "--secret", SECRET, "--json"])
    assert done.exit_code == 1
    assert [one["name"] for one in json.loads(done.output)["checks"] if not one["passed"]] == ["duplicate"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["127.0.0.1:9000/"], "https://主机/路径"),
        (["http:///hongyan"], "https://主机/路径"),
        (["http://127.0.0.1:9/", "--secret", "whsec_xx"], "密钥应为"),
        (["http://127.0.0.1:9/", "--secret", "whpk_" + "A" * 44], "公钥只能验签"),
        (["http://127.0.0.1:9/", "--header", "Bearer abc"], "--header"),
        (["https://127.0.0.1:9/", "--certificate", __file__], "成对"),
        (["https://127.0.0.1:9/", "--ca", __file__], "不是 PEM"),
        (["https://127.0.0.1:9/", "--ca", "missing.pem"], "missing.pem"),
    ],
)
def test_what_the_check_can_not_be_run_with_is_said_in_one_line(arguments: list[str], told: str) -> None:
    """Its own mistake, and neither a stack nor ten checks that the receiver seems to fail."""
    done = CliRunner().invoke(command, ["check", "--secret", SECRET, *arguments])
    assert (done.exit_code, told in done.stderr, len(done.stderr.splitlines())) == (2, True, 1), done.output


def test_both_keys_may_stand_in_the_variable_while_one_is_changed() -> None:
    """As in the receiver's own environment."""
    other = SECRET[:-5] + "AAAA="
    with serving_wsgi(WsgiApp(Receiver([other, SECRET], lambda _: None))) as url:
        done = CliRunner().invoke(command, ["check", url], env={"HONGYAN_RECEIVER_SECRET": f"{other} {SECRET}"})
    assert done.exit_code == 0, done.output


def test_a_receiver_that_asks_for_our_certificate_can_be_checked(tmp_path: Path) -> None:
    """Mutual TLS: with the certificate it passes, without it nothing is answered."""
    servers, clients = Authority("servers"), Authority("clients")
    ours = clients.issue("hongyan", client=True)
    files = {"ca": servers.pem, "certificate": ours.certificate, "private-key": ours.private_key}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    named = {name: [f"--{name}", str(tmp_path / name)] for name in files}
    server = serve(Receiver([SECRET], lambda _: None), "127.0.0.1", 0)
    context = server_context(servers.issue("127.0.0.1"), tmp_path, clients)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    asked = ["check", f"https://127.0.0.1:{server.server_port}/", "--secret", SECRET, *named["ca"]]
    try:
        shown = CliRunner().invoke(command, [*asked, *named["certificate"], *named["private-key"]])
        assert shown.exit_code == 0, shown.output
        assert CliRunner().invoke(command, [*asked, "--limit-s", "1"]).exit_code == 1
        stranger = CliRunner().invoke(command, [*asked[:4], "--limit-s", "1", "--json"])
        details = [one["detail"] for one in json.loads(stranger.stdout)["checks"]]
        assert all("用 --ca 给出" in detail for detail in details)
    finally:
        server.shutdown()
        server.server_close()
