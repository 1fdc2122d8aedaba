"""``hongyan explain``: what an agency is entitled to is told apart from what it has."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from typer.testing import CliRunner

from hongyan import app
from services.delivery.lag import SNAPSHOT_PATH, AgencyLag, Deadline, Latencies, ProbeLag, Snapshot
from tests.webservers import serving_asgi

AT = "2026-11-25T08:00:00+08:00"
GOT = {"how": "routed", "versions": {"g1": 3}, "policy": None, "fields": None}


def line(held_since: str | None, held_why: str | None) -> AgencyLag:
    """Return how the market's line stands."""
    state = "held" if held_since else "ok"
    told = (None, None, 1, True, held_since, held_why, False, Latencies(), (), Deadline(AT))
    return AgencyLag("market", "webhook", state, AT, *told)  # type: ignore[arg-type]


def said(*receipts: dict[str, Any], lag: AgencyLag | None = None) -> str:
    """Return what is printed of an event that was routed to the market, which has got these receipts."""
    api = FastAPI()

    @api.get("/v1/explain")
    def explain() -> dict[str, Any]:
        event = {"id": "e1", "type": "t", "topic": "events.t", "partition": 0, "offset": 7}
        told = {"event": event, "agency": "market", "verdict": "routed", "reason": None, "kept": True}
        rights: dict[str, list[Any]] = {"withheld": [], "then": [], "now": []}
        return {**told, **rights, "original": True, "got": [GOT], "delivered": receipts}

    @api.get(SNAPSHOT_PATH)
    def snapshot() -> dict[str, object]:
        if lag is None:
            raise HTTPException(503)
        return Snapshot(AT, 300, (lag,), (), ProbeLag("off", AT)).to_json()

    with serving_asgi(api) as url:
        known = {
            "HONGYAN_PORTAL__URL": url,
            "HONGYAN_MONITOR__URL": url.rstrip("/"),
            "HONGYAN_SECURITY__ADMIN_KEY": "k",
        }
        done = CliRunner().invoke(app, ["explain", "e1", "market"], env=known)
    assert done.exit_code == 0, done.output
    assert "有权，已入队 (entitled, queued): routed g1 v3 字段策略 全部 (whole)\n" in done.stdout
    assert "收到" not in done.stdout
    return done.stdout


def receipt(outcome: str, reason: str | None = None) -> dict[str, Any]:
    """Return a receipt."""
    return {"cursor": 5, "outcome": outcome, "attempts": 1, "last_at": AT, "reason": reason}


@pytest.mark.parametrize(
    ("lag", "words"),
    [
        (line(AT, "HTTP 503"), "队列保持中 (the line is held)，自 (since) 2026-11-25 08:00:00 HTTP 503\n"),
        (line(None, None), "看 (see) hongyan lag\n"),
        (None, "看 (see) hongyan lag\n"),
    ],
    ids=["held", "going", "no monitor"],
)
def test_what_is_only_queued_is_not_told_as_got(lag: AgencyLag | None, words: str) -> None:
    """A receiver that is dead has got nothing, and the line says since when and why."""
    assert f"尚未送达 (not delivered yet): {words}" in said(lag=lag)


def test_what_became_of_it_is_told_by_its_outcome_in_turn() -> None:
    """Nothing that was parked reads as delivered."""
    told = said(receipt("parked", "HTTP 401"), receipt("delivered"), receipt("rejected", "重复"), receipt("accepted"))
    turns = ("停放 (parked): 游标 5 2026-11-25 08:00:00 HTTP 401", "送达 (delivered)", "拒收 (rejected)")
    places = [told.index(one) for one in (*turns, "接收 (accepted)")]
    assert (places, "尚未送达" in told) == (sorted(places), False)
    assert "送达 (delivered)" not in said(receipt("parked", "HTTP 401"))
