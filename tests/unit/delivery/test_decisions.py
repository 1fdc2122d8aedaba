"""Pure decisions of delivery: signatures, answers, delays, the breaker, and where a webhook may go."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from services.delivery.breaker import Breaker
from services.delivery.network import check_destination, is_allowed, parse_networks
from services.delivery.outcome import Delivered, Gone, Later, Refused, outcome_of
from services.delivery.retry import RetryPolicy
from services.delivery.signing import signature, signed_headers, verify
from services.runtime.errors import ForbiddenError, InvalidError
from tests.configuration import SECRET

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(0.5, 60.0)


@given(st.text(min_size=1, max_size=20), st.text(max_size=200))
def test_signatures_are_those_of_an_independent_library(message_id: str, body: str) -> None:
    """Standard Webhooks v1, byte for byte."""
    theirs = Webhook(SECRET).sign(message_id, NOW, body)
    assert signature(SECRET, message_id, int(NOW.timestamp()), body.encode()) == theirs


def test_a_delivery_is_verified_and_a_changed_or_old_one_is_not() -> None:
    """The body, the secret and the time all count; of several signatures one is enough."""
    other = "whsec_" + "A" * 32
    headers = signed_headers([other, SECRET], "m1", int(NOW.timestamp()), b"body")
    assert verify(SECRET, headers, b"body", NOW.timestamp()) == "m1"
    for secret, body, now in ((SECRET, b"other", 0), (SECRET, b"body", 301), ("whsec_" + "B" * 32, b"body", 0)):
        with pytest.raises(ForbiddenError):
            verify(secret, headers, body, NOW.timestamp() + now)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (101, Later),
        (200, Delivered),
        (204, Delivered),
        (302, Later),
        (400, Refused),
        (401, Refused),
        (404, Later),
        (408, Later),
        (409, Later),
        (410, Gone),
        (413, Refused),
        (422, Refused),
        (425, Later),
        (429, Later),
        (500, Later),
        (503, Later),
    ],
)
def test_each_answer_means_what_the_table_says(status: int, kind: type) -> None:
    """docs/delivery-guarantee.md, row by row."""
    assert isinstance(outcome_of(status, None, NOW), kind)


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("7", 7),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
        ("soon", 0),
        ("9" * 12, 86400),
        ("Mon, 01 Jan 2024 00:00:00 +9999999999999999", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_capped(header: str | None, seconds: float, status: int) -> None:
    """What is neither is as if not given."""
    later = outcome_of(status, header, NOW)
    assert isinstance(later, Later)
    assert later.not_before_s == seconds


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_delays_keep_within_the_formula(failures: int, chance: float) -> None:
    """Between half and all of the capped exponential."""
    longest = min(60.0, 0.5 * 2.0 ** min(failures - 1, 30))
    assert longest / 2 <= POLICY.delay_s(failures, lambda: chance) <= longest


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from([0.0, 0.0, 2.0, 30.0])), min_size=1, max_size=20))
def test_the_receivers_longest_wish_holds_whatever_its_other_answers_ask_for(
    answers: list[tuple[float, float]],
) -> None:
    """Attempts fail at different moments, some asking for time: nothing goes before the last of these times."""
    breaker = Breaker(POLICY, 3, lambda: 0.0)
    for at, wish in sorted(answers):
        assert breaker.failed("HTTP 503", wish, 0.0, at, NOW) >= max(at + wish, breaker.probe_at)
    wished = max(at + wish if wish else 0.0 for at, wish in answers)
    assert breaker.ready_at >= wished
    breaker.succeeded(max(at for at, _ in answers))
    assert breaker.rest_until == (wished if wished > max(at for at, _ in answers) else 0.0)


def test_a_line_is_held_after_failures_in_a_row_and_reopened_by_a_success() -> None:
    """It says since when and why; one success forgets everything."""
    breaker = Breaker(POLICY, 3, lambda: 1.0)
    for n in range(3):
        assert not breaker.held
        breaker.failed("HTTP 503", 0, breaker.probe_at, float(n), NOW)
    assert (breaker.held, breaker.held_since, breaker.why) == (True, NOW, "HTTP 503")
    assert breaker.probe_at == 2.0 + 2.0
    assert breaker.succeeded(4.0)
    assert (breaker.held, breaker.failures) == (False, 0)


def test_failures_of_attempts_that_were_under_way_together_count_once() -> None:
    """Sixteen connections reset by one restart are one failure, and all go again at one time."""
    breaker = Breaker(POLICY, 3, lambda: 1.0)
    again = {breaker.failed("reset", 0, 0.0, 1.0 + n / 1000, NOW) for n in range(16)}
    assert (breaker.failures, breaker.held, again) == (1, False, {1.5})
    breaker.failed("reset", 0, 1.5, 1.6, NOW)
    assert breaker.failures == 2


def test_addresses_outside_the_allow_list_are_refused_however_they_are_written() -> None:
    """IPv4 in IPv6 form counts as itself; of several addresses all must be allowed."""
    networks = parse_networks(["10.0.0.0/8", "fd00::/8"])
    assert is_allowed("10.1.2.3", networks)
    assert is_allowed("::ffff:10.1.2.3", networks)
    assert not is_allowed("::ffff:127.0.0.1", networks)
    assert check_destination("https://a.example/x", lambda _h, port: ["10.0.0.1"] if port == 443 else [], networks)
    for url, addresses in (
        ("https://a.example/", ["10.0.0.1", "127.0.0.1"]),
        ("ftp://a.example/", ["10.0.0.1"]),
        ("https://me:secret@a.example/", ["10.0.0.1"]),
        ("https://a.example/", []),
        ("no url", ["10.0.0.1"]),
        # The sender's client takes an address in its one notation only: at each attempt would be too late to say so.
        *((f"http://{host}/", ["10.0.0.1"]) for host in ("10.1", "012.0.0.1", "167772161", "10.0.0.1.")),
    ):
        with pytest.raises(InvalidError) as caught:
            check_destination(url, lambda _h, _p, found=addresses: found, networks)  # type: ignore[misc]
        assert caught.value.problems[0].pointer == "/sink"
