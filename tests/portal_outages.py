"""What each page shows while PostgreSQL hangs, and while Kafka does. A page without a line fails the test of them.

``WHOLE``: all of it, since it needs nothing of that server. ``KEPT``: what was read last, marked with its age.
``PARTLY``: all but a part, which says that it can't be read now. ``SAID``: that it has to wait, and for what (503).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.events import ISSUED

Shows = Literal["whole", "kept", "partly", "said"]
WHOLE, KEPT, PARTLY, SAID = "whole", "kept", "partly", "said"


@dataclass(frozen=True, slots=True)
class Shown:
    """An address of a page, who looks, and what it shows while each of the two is away."""

    who: str
    address: str
    database: Shows
    kafka: Shows


PAGES: dict[str, Shown] = {
    "/": Shown("ops", "/", KEPT, KEPT),
    "/events": Shown("ops", "/events?q=cert-1", KEPT, WHOLE),
    "/events/one": Shown("ops", "/events/one?id=cert-1", KEPT, PARTLY),
    "/events/why": Shown("ops", "/events/why?id=cert-1&agency=chengdu", KEPT, PARTLY),
    "/agencies": Shown("ops", "/agencies", KEPT, KEPT),
    "/agencies/{agency}": Shown("shi", "/agencies/market", KEPT, KEPT),
    "/alerts": Shown("ops", "/alerts", WHOLE, KEPT),
    "/subscriptions": Shown("shi", "/subscriptions", KEPT, WHOLE),
    "/subscriptions/new": Shown("shi", "/subscriptions/new", SAID, WHOLE),
    "/subscriptions/{subscription}": Shown("shi", "/subscriptions/{grant}", KEPT, WHOLE),
    "/parked": Shown("ops", "/parked", WHOLE, KEPT),
    "/parked/{agency}/{offset:int}": Shown("ops", "/parked/{parked}", WHOLE, KEPT),
    "/dead-letters": Shown("ops", "/dead-letters", WHOLE, KEPT),
    "/catalogue": Shown("stat", "/catalogue", WHOLE, WHOLE),
    "/catalogue/{type}": Shown("stat", f"/catalogue/{ISSUED}", WHOLE, WHOLE),
    "/catalogue/{type}/versions/{number}": Shown("stat", f"/catalogue/{ISSUED}/versions/1", WHOLE, WHOLE),
    "/month": Shown("stat", "/month", KEPT, WHOLE),
    "/month/{month}": Shown("stat", "/month/{month}", KEPT, WHOLE),
    "/month/{month}/figures/{metric}": Shown("stat", "/month/{month}/figures/items_handled", KEPT, WHOLE),
    "/month/{month}/decide": Shown("stat", "/month/{month}/decide", SAID, SAID),
    "/month/{month}/report": Shown("stat", "/month/{month}/report", WHOLE, WHOLE),
    "/people": Shown("sec", "/people", KEPT, WHOLE),
    "/people/new": Shown("sec", "/people/new", SAID, WHOLE),
    "/people/{person}": Shown("sec", "/people/wei", SAID, WHOLE),
    "/audit": Shown("aud", "/audit", KEPT, WHOLE),
    "/account": Shown("ops", "/account", KEPT, WHOLE),
    "/account/password": Shown("ops", "/account/password", SAID, WHOLE),
    "/account/second-factor": Shown("ops", "/account/second-factor", SAID, WHOLE),
}
BEGUN = "what somebody has begun, a file, or a part of a page"
ELSEWHERE: dict[str, str] = {
    "/static/{name}": "no page",
    "/login": "of who is signed out: the test of signing in",
    "/login/second": "of who is signed out: the test of signing in",
    "/login/oidc": "of who is signed out: the test of signing in",
    "/login/oidc/callback": "of who is signed out: the test of signing in",
    "/subscriptions/{subscription}/edit": "a form like that of a new one",
    "/dead-letters/{stage}/{offset:int}": "read like a parked event, by the same object",
    "/audit.csv": BEGUN,
    "/live/overview": BEGUN,
    "/live/agencies": BEGUN,
    "/live/agency/{agency}": BEGUN,
    "/live/jobs/{identity}": BEGUN,
    "/live/alert-count": BEGUN,
    "/jobs/{identity}": BEGUN,
    "/subscriptions/{subscription}/dry-run/{identity}": BEGUN,
    "/parked/{agency}/replayed/{identity}": BEGUN,
    "/dead-letters/resubmitted/{identity}": BEGUN,
    "/month/{month}/figures.{form}": BEGUN,
    "/month/{month}/adjustments": BEGUN,
    "/month/{month}/adjustments/{identity}": BEGUN,
    "/month/{month}/report.{form}": BEGUN,
    "/month/{month}/report/{form}/{identity}": BEGUN,
    "/month/{month}/decided/{identity}": BEGUN,
}
