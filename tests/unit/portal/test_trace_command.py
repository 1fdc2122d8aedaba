"""``hongyan trace`` at the terminal: what became of an event, and a number that finds nothing."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from hongyan import app
from services.portal.trace_commands import print_event
from tests.webservers import serving_asgi


@pytest.mark.parametrize("number", ["川医广〔2025〕", "[red]x"])
def test_a_number_that_finds_nothing_is_told_to_be_complete(number: str) -> None:
    """Whoever gave the beginning of one would take the certificate for unknown."""
    ledger = FastAPI()

    @ledger.get("/v1/events")
    def none() -> dict[str, list[str]]:
        return {"events": []}

    with serving_asgi(ledger) as url:
        known = {"HONGYAN_PORTAL__URL": url, "HONGYAN_SECURITY__ADMIN_KEY": "k"}
        done = CliRunner().invoke(app, ["trace", number], env=known)
    assert (done.exit_code, f"台账中没有 {number}。编号须写完整" in done.stdout) == (1, True)


def receipt(outcome: str, channel: str, minute: int, reason: str | None = None) -> dict[str, Any]:
    """Return a receipt."""
    at = f"2026-11-25T08:{minute:02d}:00+08:00"
    return {"outcome": outcome, "channel": channel, "at": at, "reason": reason}


def printed(state: str, *receipts: dict[str, Any]) -> dict[str, Any]:
    """Return an event with one agency's part."""
    part = {"agency": "market", "why": "match", "subscriptions": ["g1"], "state": state, "attempts": 1}
    part |= {"delivered_at": receipts[0]["at"], "receipts": list(receipts)}
    event = {"id": "e1", "type": "t", "source": "urn:h", "subject": "k", "published_at": receipts[0]["at"]}
    counted = {"delivered": 1, "entitled": 1, "accepted": 1}
    return {**event, "verdict": "routed", "reason": None, "completeness": counted, "agencies": [part]}


def test_an_agencys_words_are_told_in_their_turn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took its rejection back: the standing word alone would read as if nothing had been wrong."""
    monkeypatch.setenv("COLUMNS", "160")
    words = [("accepted", None), ("rejected", "重复"), ("accepted", None)]
    receipts = [receipt(outcome, "pull", n, reason) for n, (outcome, reason) in enumerate(words, 1)]
    print_event(printed("accepted", receipt("delivered", "webhook", 0), *receipts))
    told = capsys.readouterr().out
    assert (
        "market 先后回执 (its words in turn): 2026-11-25 08:01:00 已接收；2026-11-25 08:02:00 已拒收 重复；"
        "2026-11-25 08:03:00 已接收\n"
    ) in told
    print_event(printed("accepted", receipt("delivered", "webhook", 0), receipts[0]))
    assert "先后回执" not in capsys.readouterr().out


def test_the_channel_is_what_brought_the_event_and_the_reason_that_of_the_standing_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was pushed an event may answer by pull; who pulls it has it by that."""
    monkeypatch.setenv("COLUMNS", "160")
    pushed = receipt("delivered", "webhook", 0)
    for state, receipts, cells in (
        ("rejected", (pushed, receipt("rejected", "pull", 1, "重复")), ("webhook", "重复")),
        (
            "rejected",
            (pushed, receipt("rejected", "pull", 1, "重复"), receipt("parked", "pull", 2)),
            ("webhook", "重复"),
        ),
        ("accepted", (receipt("accepted", "pull", 1),), ("pull", "")),
        ("parked", (receipt("parked", "webhook", 1, "HTTP 401"),), ("webhook", "HTTP 401")),
    ):
        print_event(printed(state, *receipts))
        (row,) = [line for line in capsys.readouterr().out.splitlines() if "market" in line]
        assert tuple(cell.strip() for cell in row.split("│")[-3:-1]) == cells
