"""The check before going live: a sample that passes, and for each check one that fails just that."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from consumers.receiver.checking import BASE, CHECKS, HANDLED_TWICE, UNTOLD, Check, check
from consumers.receiver.commands import receiver as command
from consumers.receiver.evidence import Registered, digest_of, evidence_of
from consumers.receiver.kit import HANDLED_HEADER, Answer, Event, MemorySeen, Receiver, WsgiApp
from consumers.receiver.probing import Probe
from consumers.receiver.process import serve
from consumers.receiver.telling import print_result
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


NAMES = [one.name for one in CHECKS]


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
        checked = by_name("slow-answer").on(Probe(url, SECRET, LIMIT_S))
    assert status in checked.statuses
    assert checked.passed is passes


def by_name(name: str) -> Check:
    """Return one of the checks."""
    return next(one for one in CHECKS if one.name == name)


@pytest.mark.parametrize("flaw", NAMES)
def test_a_receiver_with_one_flaw_fails_just_that_check(flaw: str) -> None:
    """And the detail says what to mend."""
    with serving_wsgi(WsgiApp(Flawed(flaw))) as url:
        results = check(Probe(url, SECRET, LIMIT_S))
    failed = [one for one in results if one.passed is False]
    assert [one.name for one in failed] == [flaw]
    assert [one.name for one in results if one.passed is None] == (NAMES[2:] if flaw == BASE else [])
    assert failed[0].detail
    assert any("一" <= letter <= "鿿" for letter in failed[0].detail)


def test_a_receiver_that_handles_a_repetition_once_more_fails_though_it_answers_well() -> None:
    """As far as it tells what it handled: the kit's does."""

    class Forgetful(Receiver):
        def receive(self, headers: Headers, body: bytes) -> Answer:
            answer = super().receive(headers, body)
            return Answer(204, answer.headers | {HANDLED_HEADER: "1"}) if answer.status == 204 else answer

    with serving_wsgi(WsgiApp(Forgetful([SECRET], lambda _: None, trials=True))) as url:
        checked = by_name("duplicate").on(Probe(url, SECRET, LIMIT_S))
    assert (checked.passed, checked.detail) == (False, HANDLED_TWICE)
    with serving_wsgi(WsgiApp(Receiver([SECRET], lambda _: None, trials=True))) as url:
        assert by_name("duplicate").on(Probe(url, SECRET, LIMIT_S)).passed


@pytest.mark.parametrize(("status", "passes"), [(401, True), (403, True), (404, False), (409, False), (429, False)])
@pytest.mark.parametrize("name", ["bad-signature", "old-timestamp"])
def test_a_forged_request_is_refused_for_good(name: str, status: int, passes: bool) -> None:
    """What is answered with a status that is tried again would come for ever."""

    class Refusing(Receiver):
        def receive(self, headers: Headers, body: bytes) -> Answer:
            answer = super().receive(headers, body)
            return Answer(status) if answer.status == 401 else answer

    with serving_wsgi(WsgiApp(Refusing([SECRET], lambda _: None))) as url:
        checked = by_name(name).on(Probe(url, SECRET, LIMIT_S))
    assert (checked.passed, set(checked.statuses)) == (passes, {status})


def test_a_receiver_that_is_not_there_passes_nothing_and_it_is_said_so() -> None:
    """Nothing is passed over because nothing answered, and in plain words why nothing did."""
    results = check(Probe("http://127.0.0.1:9/", SECRET, LIMIT_S))
    assert [one.passed for one in results] == [False, False] + [None] * (len(CHECKS) - 2)
    assert results[1].detail == "连不上 (can't connect)：这个地址没有程序在听 (connection refused)"
    assert "连不上" in results[0].detail
    assert {one.detail for one in results[2:]} == {UNTOLD}


def test_a_receiver_that_answers_too_late_is_not_said_to_be_away() -> None:
    """It was reached; what is to be done is something else."""
    event = threading.Event()

    def slow(environ: Any, start_response: Any) -> list[bytes]:
        event.wait(5)
        start_response("204 -", [])
        return [b""]

    with serving_wsgi(slow) as url:
        detail = by_name(BASE).on(Probe(url, SECRET, 0.1)).detail
        event.set()
    assert ("没有得到应答" in detail, "先落库再应答" in detail, "连不上" in detail) == (True, True, False)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, ["密钥不符", "wrong key?"]),
        (403, ["密钥不符", "wrong key?"]),
        (404, ["此路径没有接收端", "nothing at this path?"]),
        (405, ["此路径没有接收端", "nothing at this path?"]),
        (503, ["接收端忙"]),
        (500, ["处理时出错"]),
        (302, ["不跟随重定向"]),
    ],
)
def test_what_refuses_everything_passes_nothing_by_it(status: int, told: list[str]) -> None:
    """A wrong key or path refuses forged and old requests too: that proves nothing, and the conclusion says why."""

    def refuses(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response(f"{status} -", [("Content-Type", "text/plain")])
        return ["只此一句".encode()]

    with serving_wsgi(refuses) as url:
        done = CliRunner().invoke(command, ["check", url, "--secret", SECRET, "--json"])
        shown = CliRunner().invoke(command, ["check", url, "--secret", SECRET])
    document = json.loads(done.stdout)
    assert (done.exit_code, shown.exit_code, document["passed"]) == (1, 1, False)
    assert not [one["name"] for one in document["checks"] if one["passed"]]
    last = next(line for line in shown.stdout.splitlines() if line.startswith("结论"))
    assert [word for word in [f"HTTP {status}", "只此一句", "其余未判定", *told] if word not in last] == []


def test_a_wrong_key_is_told_from_a_wrong_clock_by_what_the_receiver_says() -> None:
    """Both are answered with 401."""
    other = SECRET[:-5] + "AAAA="
    for receiver, word in (
        (Receiver([other], lambda _: None), "签名不符"),
        (Receiver([SECRET], lambda _: None, clock=lambda: 0.0), "时间戳"),
    ):
        with serving_wsgi(WsgiApp(receiver)) as url:
            results = check(Probe(url, SECRET, LIMIT_S))
        assert [one.passed for one in results[:3]] == [False, False, None]
        assert all(word in one.detail for one in results[:2])


def takes_its_time(_: Event) -> None:
    """Handle an event slowly: one after the other, twenty take longer than the limit."""
    threading.Event().wait(0.05)


@pytest.mark.parametrize(("trials", "passes"), [(False, True), (True, False)])
def test_a_slow_handler_fails_where_trials_are_handled_and_is_said_to_be_unmeasured_elsewhere(
    trials: bool, passes: bool
) -> None:
    """The kit answers test events without it unless it is asked to; the check never claims what it can't know."""
    with serving_wsgi(WsgiApp(Receiver([SECRET], takes_its_time, trials=trials))) as url:
        checked = by_name("slow-answer").on(Probe(url, SECRET, LIMIT_S))
    assert (checked.passed, "时间不含处理函数" in checked.detail) == (passes, passes)
    assert ("时间含处理函数" in checked.detail) is trials
    assert ("trials=True" in checked.detail) is not trials


@pytest.mark.parametrize("trials", [False, True])
def test_the_conclusion_claims_the_handlers_speed_only_where_it_was_called(trials: bool) -> None:
    """Who reads just the last lines is not told more than was measured."""
    with serving_wsgi(WsgiApp(Receiver([SECRET], lambda _: None, trials=trials))) as url:
        done = CliRunner().invoke(command, ["check", url, "--secret", SECRET])
    last = next(line for line in done.stdout.splitlines() if line.startswith("结论"))
    assert ("全部通过" in last, "应答时间量了什么" in last) == (True, not trials)


def test_a_receiver_of_another_make_is_not_said_to_have_handled_anything() -> None:
    """Its answer does not tell."""

    def takes_all(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("204 -", [])
        return [b""]

    with serving_wsgi(takes_all) as url:
        checked = by_name("slow-answer").on(Probe(url, SECRET, LIMIT_S))
    assert checked.passed
    assert "只在接收端照样处理试投递时才算在内" in checked.detail


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


@pytest.mark.parametrize("columns", ["80", "60"])
def test_the_table_cuts_nothing(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the terminal: what is to be mended stands at the end of the longest cells."""
    monkeypatch.setenv("COLUMNS", columns)
    results = [
        replace(one.untold(), passed=False, detail=one.mend or one.title, statuses=[None, 401]) for one in CHECKS
    ]
    url = "http://10.1.2.3:8080/" + "path-" * 30
    with redirect_stdout(io.StringIO()) as stream:
        print_result(evidence_of(url, results, 10.0))
    lines = stream.getvalue().splitlines()
    assert all(cell_len(line) <= int(columns) for line in lines if "│" in line or "┃" in line)
    explained = "".join(line.split("│")[-2] for line in lines if line.count("│") == 6)
    assert all(bare(one.detail) in bare(explained) for one in results)
    assert bare(url) in bare("".join(lines))


def bare(text: str) -> str:
    """Return a text without its spaces."""
    return "".join(text.split())


def test_the_result_is_shown_before_it_is_kept_and_where_it_is_kept_is_said(tmp_path: Path) -> None:
    """What can't be written is not lost; what was not kept at all is said too."""
    out = tmp_path / "evidence.json"
    with serving_wsgi(WsgiApp(Receiver([SECRET], lambda _: None))) as url:
        kept = CliRunner().invoke(command, ["check", url, "--secret", SECRET, "--out", str(out)])
        lost = CliRunner().invoke(command, ["check", url, "--secret", SECRET, "--out", str(tmp_path / "no" / "x.json")])
        neither = CliRunner().invoke(command, ["check", url, "--secret", SECRET])
        piped = CliRunner().invoke(command, ["check", url, "--secret", SECRET, "--json"])
    assert str(out) in kept.stdout
    assert (lost.exit_code, "全部通过" in lost.stdout, "x.json" in lost.stderr) == (2, True, True)
    assert "没有保存" in neither.stdout
    assert json.loads(piped.output)["passed"]


@pytest.mark.parametrize(
    ("checked", "warned"),
    [
        ("http://10.1.2.3:80/hongyan", False),
        ("HTTP://10.1.2.3/hongyan", False),
        ("http://10.1.2.3/hongyan/", True),
        ("https://10.1.2.3/hongyan", True),
        ("http://10.1.2.3:8080/hongyan", True),
        ("http://10.1.2.3/hongyan?to=test", True),
    ],
)
def test_evidence_of_another_address_than_the_registered_one_says_so(checked: str, warned: bool) -> None:
    """However each is written; both stand in the document, under its digest."""
    document = evidence_of(checked, [], 10.0, Registered("market", "http://10.1.2.3/hongyan"))
    assert document["registered_url"] == "http://10.1.2.3/hongyan"
    assert bool(document["warnings"]) is warned
    assert all(checked in told and "http://10.1.2.3/hongyan" in told for told in document["warnings"])
    assert document["digest"] != digest_of(document | {"warnings": ["another"]})


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
        details = [one["detail"] for one in json.loads(stranger.stdout)["checks"][:2]]
        assert all("用 --ca 给出" in detail for detail in details)
    finally:
        server.shutdown()
        server.server_close()
