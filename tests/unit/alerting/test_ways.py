"""The ways to people against real servers on loopback: what arrives, and what is said of everything that goes wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from standardwebhooks import Webhook as StandardWebhook
from typer._click.core import Context

from hongyan import app
from services.alerting.certificates import shown_certificate
from services.alerting.groups import Group, take
from services.alerting.messages import bundle, mail_of, notice_of, text_of
from services.alerting.routes import Webhook, read_routes
from services.alerting.ways import Hook, Mail
from services.delivery.network import parse_networks
from services.runtime.alerts import MEANINGS, Alert, AlertKind
from services.runtime.embedded.ports import free_port
from services.runtime.errors import HongyanError, InvalidError
from services.runtime.settings import AlertingSettings, DeliverySettings
from tests.certificates import Authority, server_context
from tests.configuration import SECRET
from tests.mailbox import Mailbox
from tests.scripted_receiver import Answer, ScriptedReceiver

NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
LOOPBACK = parse_networks(["127.0.0.0/8"])
DUTY = "duty@example.org"


def group(subject: str = "market", kind: AlertKind = AlertKind.LINE_HELD) -> Group:
    """Return a trouble."""
    made = take(None, Alert(kind, subject, NOW.isoformat(), "连接被拒绝 (refused)"), 1, NOW, 60)
    assert made is not None
    return made


NOTICE = notice_of(group(), "mail:x", "raised")


def settings(mailbox: Mailbox, **more: object) -> AlertingSettings:
    """Return settings that send to this mailbox."""
    found = AlertingSettings(smtp_host="127.0.0.1", smtp_port=mailbox.port, smtp_security="none", smtp_timeout_s=2)
    return found.model_copy(update=more)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[Mailbox, Path]]:
    """A mail server that wants STARTTLS and a login, and the file of its certificate's issuer."""
    authority = Authority("mail")
    file = tmp_path / "ca.pem"
    file.write_text(authority.pem)
    with Mailbox(tls=server_context(authority.issue("127.0.0.1"), tmp_path), login=("hongyan", "secret")) as mailbox:
        yield mailbox, file


def test_a_mail_goes_out_over_starttls_with_a_login(secured: tuple[Mailbox, Path]) -> None:
    """It says in Chinese first what is wrong and what to run, and can be told from another one."""
    mailbox, ca = secured
    way = Mail(
        settings(
            mailbox,
            smtp_security="starttls",
            smtp_ca_file=ca,
            smtp_user="hongyan",
            smtp_password=SecretStr("secret"),
        ),
        DUTY,
    )
    assert way.send(NOTICE) is None
    (mail,) = mailbox.mails
    assert mail["To"] == DUTY
    assert mail["Subject"] == NOTICE.title
    assert NOTICE.title.startswith("【鸿雁·警告】market：接收单位无应答")
    body = mail.get_content()
    for expected in ("连接被拒绝", "hongyan agency test market", "2026-01-05 10:00:00", "hongyan alerts silence"):
        assert expected in body
    assert NOTICE.id in mail["Message-ID"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"smtp_password": SecretStr("wrong")}, "不认登录"),
        ({"smtp_ca_file": None}, "TLS 失败"),
        ({"smtp_user": None}, "要求先登录"),
        ({"smtp_security": "none"}, "不支持"),
    ],
)
def test_what_a_secured_mail_server_does_not_take_is_said_with_the_setting(
    secured: tuple[Mailbox, Path], changed: dict[str, object], said: str
) -> None:
    """Login, certificate, no login at all, no TLS."""
    mailbox, ca = secured
    good = {"smtp_security": "starttls", "smtp_ca_file": ca, "smtp_user": "hongyan"}
    way = Mail(settings(mailbox, **{**good, "smtp_password": SecretStr("secret"), **changed}), DUTY)
    trouble = way.send(NOTICE)
    assert trouble is not None
    assert said in trouble
    assert f"127.0.0.1:{mailbox.port}" in trouble
    assert mailbox.mails == []


def test_a_refused_recipient_a_closed_port_and_no_server_at_all_are_told_apart() -> None:
    """Each by what to look at."""
    with Mailbox(refuse={DUTY}) as mailbox:
        assert "不收此收件人" in (Mail(settings(mailbox), DUTY).send(NOTICE) or "")
        assert "550 no such user" in (Mail(settings(mailbox), DUTY).send(NOTICE) or "")
    assert "没有应答" in (Mail(settings(Mailbox(port=free_port())), DUTY).send(NOTICE) or "")
    assert "HONGYAN_ALERTING__SMTP_HOST" in (Mail(AlertingSettings(), DUTY).send(NOTICE) or "")


def test_a_webhook_is_signed_so_that_any_library_of_the_standard_accepts_it() -> None:
    """And is posted under the same network check as deliveries."""
    receiver = ScriptedReceiver()
    try:
        hook = Webhook(url=receiver.url, secret=SecretStr(SECRET))
        assert Hook(hook, LOOPBACK, DeliverySettings()).send(NOTICE) is None
        outside = Hook(hook, parse_networks(["10.0.0.0/8"]), DeliverySettings()).send(NOTICE)
        receiver.script = lambda _request, _earlier: Answer(500)
        refused = Hook(hook, LOOPBACK, DeliverySettings()).send(NOTICE)
    finally:
        receiver.close()
    first = receiver.requests[0]
    StandardWebhook(SECRET).verify(first.body, first.headers)
    assert first.event["type"] == "alert.raised"
    assert first.event["data"]["commands"] == ["hongyan lag", "hongyan agency test market"]
    assert first.headers["webhook-id"] == NOTICE.id
    assert "不在允许的网络内" in (outside or "")
    assert "500" in (refused or "")
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_has_a_message_that_names_what_to_do(kind: AlertKind) -> None:
    """Chinese first, with an exact command about the subject."""
    notice = notice_of(group("market", kind), "mail:x", "raised")
    text = text_of(notice)
    assert MEANINGS[kind].commands
    assert all(command.startswith(("hongyan ", "df ")) for command in MEANINGS[kind].commands_for("market"))
    assert "{" not in text
    assert "\n" not in mail_of(notice, "a@b", "c@d", NOW)["Subject"]


def test_every_command_that_a_message_names_exists() -> None:
    """Down to its options."""
    for meaning in MEANINGS.values():
        for line in meaning.commands_for("market"):
            program, *words = line.split()
            if program == "hongyan":
                assert_exists(words)


def assert_exists(words: list[str]) -> None:
    """Find a command in the product's own tree, and each option among its parameters."""
    command = typer.main.get_command(app)
    while words and not words[0].startswith("-"):
        found = command.get_command(Context(command), words[0]) if hasattr(command, "get_command") else None
        if found is None:
            break
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert not hasattr(command, "get_command") or getattr(command, "invoke_without_command", False), words
    assert {word for word in words if word.startswith("--")} <= known, words
    assert not words or not hasattr(command, "get_command"), words


def test_many_at_once_are_one_message() -> None:
    """When a network is gone, nobody reads five hundred mails."""
    one = bundle([notice_of(group(f"a{n}"), "mail:x", "raised") for n in range(50)])
    assert one.subjects[:2] == ("a0", "a1")
    assert one.size == 50
    assert "50 个对象" in one.title


def test_a_message_has_the_same_id_until_it_went_out() -> None:
    """So that whoever gets it twice after a crash can tell."""
    assert notice_of(group(), "mail:x", "raised").id == notice_of(group(), "mail:x", "repeated").id
    assert notice_of(group(), "mail:x", "raised").id != notice_of(group(), "mail:y", "raised").id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: [", "读不出"),
        ("routes: []", "/routes"),
        ("routes: [{name: a, mail: [nobody]}]", "/routes/0/mail/0"),
        ("routes: [{name: a, kinds: [no-such]}]", "/routes/0/kinds/0"),
        ("routes: [{name: a, webhook: {url: 'http://x', secret: 'whsec_!!'}}]", "/routes/0/webhook/secret"),
        ("routes: [{name: a, mails: []}]", "/routes/0/mails"),
        ("routes: [{name: a}, {name: a}]", "名称重复"),
    ],
)
def test_a_bad_file_of_routes_is_refused_by_field(tmp_path: Path, text: str, said: str) -> None:
    """By its place in the file."""
    file = tmp_path / "alerts.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises((HongyanError, InvalidError), match=said):
        read_routes(file)


def test_routes_choose_by_severity_kind_and_subject(tmp_path: Path) -> None:
    """Whoever is named twice is told once: the ways have names."""
    file = tmp_path / "alerts.yaml"
    file.write_text(
        """
routes:
  - {name: all, mail: [all@example.org]}
  - {name: critical, mail: [night@example.org], severities: [critical]}
  - {name: market, mail: [market@example.org], subjects: [market]}
  - {name: letters, mail: [letters@example.org], kinds: [dead-letters]}
""",
        encoding="utf-8",
    )
    routes = read_routes(file)
    chosen = {
        one.subject: [route.name for route in routes.routes if route.wants(one)]
        for one in (group(), group("health"), group("router", AlertKind.DEAD_LETTERS))
    }
    assert chosen == {"market": ["all", "market"], "health": ["all"], "router": ["all", "critical", "letters"]}


@pytest.mark.parametrize("lasts", [timedelta(days=3), timedelta(seconds=-60)])
def test_the_certificate_of_a_receiver_is_seen_also_when_it_has_ended(tmp_path: Path, lasts: timedelta) -> None:
    """A handshake as a delivery's, whose certificate is not trusted for anything."""
    context = server_context(Authority("receivers").issue("127.0.0.1", lasts=lasts), tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def shake_hands() -> None:
            connection, _ = listening.accept()
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        server = threading.Thread(target=shake_hands, daemon=True)
        server.start()
        seen = shown_certificate("market", f"https://127.0.0.1:{port}/x", None, LOOPBACK)
        server.join(5)
    assert abs((seen.ends_at - datetime.now(UTC) - lasts).total_seconds()) < 120
    with pytest.raises(InvalidError, match="不在允许的网络内"):
        shown_certificate("market", "https://127.0.0.1:1/x", None, parse_networks(["10.0.0.0/8"]))
