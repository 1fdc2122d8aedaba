"""What signing in goes by, on values: waits, passwords, codes, and where one is sent on to."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from services.identity.people import Person, Role, standing_problems
from services.identity.sign_ins import Failures
from services.portal.web.account import browser_of
from services.portal.web.passwords import Passwords, one_time_password, weakness
from services.portal.web.patience import OF_ACCOUNT
from services.portal.web.second_factor import STEP_S, enrolment_address, new_secret, picture, step_of
from services.portal.web.sign_in import inside

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)
ZHANG = Person("zhang-san", "张三", agency="market")


def waits(failures: int) -> float:
    """Return the seconds to wait right after so many failures."""
    return OF_ACCOUNT.left(Failures("account:x", failures, NOW), NOW).total_seconds()


def test_the_first_failures_cost_nothing_and_the_wait_doubles_up_to_its_limit() -> None:
    """Typing wrongly is human; guessing takes ever longer, and nobody waits for ever."""
    assert [waits(n) for n in (0, 4, 5, 6, 7, 9)] == [0, 0, 30, 60, 120, 480]
    assert waits(10) == waits(1_000_000) == 15 * 60


def test_a_wait_is_over_when_its_time_is() -> None:
    """It counts from the last failure."""
    held = Failures("account:x", 5, NOW - timedelta(seconds=29))
    assert OF_ACCOUNT.left(held, NOW) == timedelta(seconds=1)
    assert OF_ACCOUNT.left(held, NOW + timedelta(seconds=1)) == timedelta()


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "Password1234!",
        "qwertyuiop123",
        "woaini5201314520",
        "aaaaaaaaaaaaaaaa",
        "abcdefghijklmnop",
        "123456789012345",
        "changemechangeme",
        "my-zhang-san-key-2026",
        "张三的密码是春天的花园里",
        "x" * 201,
    ],
)
def test_a_weak_password_is_refused(password: str) -> None:
    """Too short, too long, common, a row of the alphabet, or with one's own name in it."""
    assert weakness(password, ZHANG) is not None


@pytest.mark.parametrize(
    "password", ["夜来风雨声花落知多少春", "correct horse battery", "7vK!pq2Zr#mN", "春眠不觉晓 处处闻啼鸟"]
)
def test_a_long_sentence_is_a_good_password(password: str) -> None:
    """In Chinese too, with or without signs."""
    assert (weakness(password, ZHANG) is None) is (len(password) >= 12)


def test_a_password_fits_only_itself_and_who_has_none_is_refused() -> None:
    """The hash is argon2id, and differs each time."""
    passwords = Passwords()
    kept = passwords.hash("correct horse battery")
    assert kept.startswith("$argon2id$") and kept != passwords.hash("correct horse battery")
    assert passwords.fits(kept, "correct horse battery")
    assert not passwords.fits(kept, "correct horse batterz")
    assert not passwords.fits(None, "correct horse battery")
    assert not passwords.fits(kept, "x" * 100_000)


def test_one_time_passwords_are_read_out_easily_and_never_twice_the_same() -> None:
    """No letters that look like others."""
    given = {one_time_password() for _ in range(200)}
    assert len(given) == 200
    assert not set("".join(given)) & set("0O1lIio")


def test_codes_are_those_of_rfc_6238_and_a_neighbouring_step_is_taken() -> None:
    """The RFC's own vectors, by the last six digits; an app's clock may be half a minute off, not more."""
    secret = base64.b32encode(b"12345678901234567890").decode()
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        at = datetime.fromtimestamp(seconds, UTC)
        assert step_of(secret, f" {code[:3]} {code[3:]}", at) == seconds // STEP_S
        assert step_of(secret, code, at + timedelta(seconds=STEP_S)) == seconds // STEP_S
        assert step_of(secret, code, at + timedelta(seconds=2 * STEP_S + 1)) is None
    assert step_of(secret, "２８７０８２", datetime.fromtimestamp(59, UTC)) is None


def test_an_app_reads_the_secret_from_a_picture_without_styles_of_its_own() -> None:
    """The page's policy allows no style that stands in it."""
    secret = new_secret()
    address = enrolment_address(secret, "zhang-san", "鸿雁 Hongyan")
    read = pyotp.parse_uri(address)
    assert (read.secret, read.name, read.issuer) == (secret, "zhang-san", "鸿雁 Hongyan")
    drawn = picture(address)
    assert drawn.startswith("<svg") and "style" not in drawn and "<script" not in drawn


def test_a_session_is_told_by_its_browser_and_system() -> None:
    """In words that its owner knows."""
    edge = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0"
    assert browser_of(edge) == "Edge · Windows"
    assert browser_of("Mozilla/5.0 (iPhone; CPU iPhone OS 18 like Mac OS X) Version/18 Safari/604") == "Safari · iPhone"
    assert browser_of("curl/8") == "curl/8"


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "https://elsewhere.example/",
        "//elsewhere.example/x",
        "/\\elsewhere.example",
        "\\\\elsewhere.example",
        "/a\\b",
        "javascript:alert(1)",
        "/\t/elsewhere.example",
        "elsewhere",
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(path: str | None) -> None:
    """Only paths of this site are gone on to."""
    assert inside(path) == "/"


def test_a_path_of_this_site_is_gone_on_to() -> None:
    """With what it asks for."""
    assert inside("/events?subject=a%2Fb&x=1") == "/events?subject=a%2Fb&x=1"


def test_the_three_administrators_are_kept_apart() -> None:
    """One person is at most one of them and belongs to no unit then; a statistician may be one besides."""

    def wrong(*roles: Role, agency: str | None = None) -> list[str]:
        return [one.pointer for one in standing_problems(Person("x", "x", agency=agency, roles=list(roles)))]

    assert wrong() == ["/agency"]
    assert wrong(Role.SYSTEM, Role.AUDIT) == ["/roles"]
    assert wrong(Role.SECURITY, agency="market") == ["/roles"]
    assert wrong(Role.SECURITY) == wrong(Role.SYSTEM, Role.STATISTICIAN) == wrong(Role.STATISTICIAN, agency="m") == []
