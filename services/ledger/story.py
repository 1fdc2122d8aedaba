"""The story of one event as its reader may know it: who has it since when, and who said what. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from schemas.receipts import OWN_WORDS, with_words
from services.ledger.searching import Scope

HAS_IT = frozenset({"delivered", "accepted", "rejected"})


def agency_part(row: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put one agency's part together: the newest receipt of the agency's own stands before ours."""
    ordered = sorted(receipts, key=lambda receipt: receipt["at"])
    has_it = [receipt for receipt in ordered if receipt["outcome"] in HAS_IT]
    said = [receipt for receipt in ordered if receipt["outcome"] in OWN_WORDS]
    newest = next((found[-1] for found in (said, has_it, ordered) if found), None)
    return {
        "agency": row["agency"],
        "why": row["why"],
        "subscriptions": row["subscriptions"],
        "routed_at": row["routed_at"],
        "state": newest["outcome"] if newest else "pending",
        "delivered_at": has_it[0]["at"] if has_it else None,
        "acknowledged_at": said[-1]["at"] if said else None,
        "attempts": sum(receipt["attempts"] for receipt in ordered),
        "receipts": [{name: value for name, value in r.items() if name != "agency"} for r in ordered],
    }


def completeness(agencies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many of the entitled have the event, and what they said: ``complete`` when all have it."""
    states = [agency["state"] for agency in agencies]
    has_it = sum(state in HAS_IT for state in states)
    counted = {name: states.count(name) for name in ("accepted", "rejected", "parked", "pending")}
    return {"entitled": len(states), "delivered": has_it, **counted, "complete": has_it == len(states)}


def told_to(scope: Scope, receipts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return receipts with the agencies' own words as far as a reader may know them: they may name anybody.

    What a receiver said of an event that it refused is for its own side and the publisher's; in what words an agency
    accepted or rejected one, for who holds the administration key too.
    """
    told = []
    for one in receipts:
        words, reason = one["words"], one["reason"]
        if scope.agency is not None or scope.sources is not None:
            reason = with_words(reason, words)
        elif scope.is_operator and one["outcome"] in OWN_WORDS:
            reason = None
        told.append({name: value for name, value in one.items() if name != "words"} | {"reason": reason})
    return told


def moments(event: Mapping[str, Any], agencies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return everything that happened to an event with its time, oldest first.

    ``what`` is occurred (the act itself), published (taken in), logged (on the log), routed, entitled (to one agency
    that was given it later), attempted (first), or a receipt's outcome; ``agency`` is None before the routing.
    """
    found = [
        _moment(event[name], what)
        for name, what in (
            ("occurred_at", "occurred"),
            ("recorded_at", "published"),
            ("logged_at", "logged"),
            ("routed_at", "routed"),
        )
    ]
    for agency in agencies:
        name = agency["agency"]
        if agency["routed_at"] != event["routed_at"]:
            found.append(_moment(agency["routed_at"], "entitled", name))
        for receipt in agency["receipts"]:
            told = {key: receipt[key] for key in ("channel", "attempts", "status", "reason")}
            if receipt["first_at"] is not None and receipt["first_at"] != receipt["at"]:
                found.append(_moment(receipt["first_at"], "attempted", name))
            found.append(_moment(receipt["at"], receipt["outcome"], name, **told))
    return sorted((one for one in found if one["at"] is not None), key=lambda one: one["at"])


def _moment(at: datetime | None, what: str, agency: str | None = None, **told: object) -> dict[str, Any]:
    return {"at": at, "what": what, "agency": agency, **told}
