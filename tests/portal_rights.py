"""Who may what in the portal, route by route. A route without a line fails ``test_portal_rights``."""

from __future__ import annotations

SIGNED_OUT = "signed-out"
KINDS = ("system", "security", "audit", "statistician", "agency", "department", SIGNED_OUT)
ANYBODY = frozenset(KINDS)
SIGNED_IN = ANYBODY - {SIGNED_OUT}
ADMINISTRATORS = frozenset({"system", "security", "audit"})
CONCERNED = ADMINISTRATORS | {"agency", "department"}
SYSTEM, SECURITY, AUDIT, STATISTICIAN = (frozenset({one}) for one in KINDS[:4])
FIGURES = STATISTICIAN | SYSTEM | AUDIT
AGENCY, DEPARTMENT = frozenset({"agency"}), frozenset({"department"})

RIGHTS: dict[tuple[str, str], frozenset[str]] = {
    ("GET", "/static/{name}"): ANYBODY,
    # Signing in, and one's own account
    ("GET", "/login"): ANYBODY,
    ("POST", "/login"): ANYBODY,
    ("GET", "/login/second"): SIGNED_IN - SIGNED_IN,
    ("POST", "/login/second"): ANYBODY,
    ("GET", "/login/oidc"): ANYBODY,
    ("GET", "/login/oidc/callback"): ANYBODY,
    ("POST", "/logout"): SIGNED_IN,
    ("POST", "/preferences"): ANYBODY,
    ("GET", "/account"): SIGNED_IN,
    ("GET", "/account/password"): SIGNED_IN,
    ("POST", "/account/password"): SIGNED_IN,
    ("GET", "/account/second-factor"): SIGNED_IN,
    ("POST", "/account/second-factor"): SIGNED_IN,
    ("POST", "/account/second-factor/remove"): SIGNED_IN,
    ("POST", "/account/sessions/end"): SIGNED_IN,
    # People (security administrator) and audit (audit administrator)
    ("GET", "/people"): SECURITY,
    ("POST", "/people"): SECURITY,
    ("GET", "/people/new"): SECURITY,
    ("GET", "/people/{person}"): SECURITY,
    ("POST", "/people/{person}/roles"): SECURITY,
    ("POST", "/people/{person}/password"): SECURITY,
    ("POST", "/people/{person}/{act}"): SECURITY,
    ("GET", "/audit"): AUDIT,
    ("GET", "/audit.csv"): AUDIT,
    # Overview, events, agencies, alerts
    ("GET", "/"): SIGNED_IN,
    ("GET", "/live/overview"): CONCERNED,
    ("GET", "/events"): CONCERNED,
    ("GET", "/events/one"): CONCERNED,
    ("GET", "/events/why"): CONCERNED,
    ("GET", "/agencies"): CONCERNED,
    ("GET", "/live/agencies"): ADMINISTRATORS | DEPARTMENT,
    # Of one agency: its own people too, but of no other's, as which the test calls them.
    ("GET", "/agencies/{agency}"): ADMINISTRATORS,
    ("GET", "/live/agency/{agency}"): ADMINISTRATORS,
    ("POST", "/agencies/{agency}/pause"): SYSTEM,
    ("POST", "/agencies/{agency}/resume"): SYSTEM,
    ("POST", "/agencies/{agency}/verify"): SYSTEM,
    ("POST", "/agencies/{agency}/test"): SYSTEM,
    ("POST", "/agencies/{agency}/replay"): SYSTEM,
    ("POST", "/agencies/{agency}/rotate-key"): SECURITY,
    ("POST", "/agencies/{agency}/feed-key"): SECURITY,
    ("POST", "/agencies/{agency}/revoke-key"): SECURITY,
    ("GET", "/alerts"): CONCERNED,
    ("GET", "/live/alert-count"): SIGNED_IN,
    ("POST", "/alerts/silences"): SYSTEM,
    ("POST", "/alerts/silences/{name}/end"): SYSTEM,
    # Subscriptions, parked and dead letters, catalogue, month
    ("GET", "/subscriptions"): SIGNED_IN,
    ("GET", "/subscriptions/new"): AGENCY,
    ("POST", "/subscriptions/new"): AGENCY,
    ("GET", "/subscriptions/{subscription}"): SIGNED_IN,
    ("GET", "/subscriptions/{subscription}/edit"): SIGNED_IN,
    ("POST", "/subscriptions/{subscription}/edit"): AGENCY,
    ("POST", "/subscriptions/{subscription}/{action}"): SIGNED_IN - SECURITY - AUDIT,
    ("POST", "/subscriptions/{subscription}/dry-run"): SIGNED_IN,
    ("GET", "/subscriptions/{subscription}/dry-run/{identity}"): SIGNED_IN,
    ("GET", "/jobs/{identity}"): SIGNED_IN,
    ("GET", "/live/jobs/{identity}"): SIGNED_IN,
    ("GET", "/parked"): SYSTEM | AGENCY,
    ("GET", "/parked/{agency}/{offset:int}"): SYSTEM,
    ("POST", "/parked/{agency}/replay"): SYSTEM | AGENCY,
    ("GET", "/parked/{agency}/replayed/{identity}"): SIGNED_IN,
    ("GET", "/dead-letters"): SYSTEM | DEPARTMENT,
    ("GET", "/dead-letters/{stage}/{offset:int}"): SYSTEM | DEPARTMENT,
    ("POST", "/dead-letters/{stage}/{offset:int}"): SYSTEM | DEPARTMENT,
    ("POST", "/dead-letters/resubmit"): SYSTEM | DEPARTMENT,
    ("GET", "/dead-letters/resubmitted/{identity}"): SIGNED_IN,
    ("GET", "/catalogue"): SIGNED_IN,
    ("GET", "/catalogue/{type}"): SIGNED_IN,
    ("GET", "/catalogue/{type}/versions/{number}"): SIGNED_IN,
    ("GET", "/month"): FIGURES,
    ("GET", "/month/{month}"): FIGURES,
    ("GET", "/month/{month}/figures/{metric}"): FIGURES,
    ("GET", "/month/{month}/figures.{form}"): FIGURES,
    ("GET", "/month/{month}/adjustments"): FIGURES,
    ("GET", "/month/{month}/adjustments/{identity}"): SIGNED_IN,
    ("GET", "/month/{month}/report"): FIGURES,
    ("GET", "/month/{month}/report.{form}"): FIGURES,
    ("GET", "/month/{month}/report/{form}/{identity}"): SIGNED_IN,
    ("GET", "/month/{month}/decide"): STATISTICIAN,
    ("POST", "/month/{month}/decide"): STATISTICIAN,
    ("GET", "/month/{month}/decided/{identity}"): STATISTICIAN,
}

SIDES = ("agency, its own", "agency, another's", "department, its own", "department, another's")
LET = "let"
"""Neither refused nor unknown: what is wrong with the form, or with how things stand, is told to who may ask."""
OBJECTS: dict[tuple[str, str], tuple[str, tuple[int | str | None, ...]]] = {
    ("GET", "/events/one"): ("/events/one?id={event}", (LET, 404, LET, 404)),
    ("GET", "/events/why"): ("/events/why?id={event}&agency={agency}", (LET, 403, LET, 404)),
    ("GET", "/agencies/{agency}"): ("/agencies/{agency}", (LET, 403, 403, 403)),
    ("GET", "/live/agency/{agency}"): ("/live/agency/{agency}", (LET, 403, 403, 403)),
    ("POST", "/agencies/{agency}/pause"): ("/agencies/{agency}/pause", (403, 403, 403, 403)),
    ("POST", "/agencies/{agency}/resume"): ("/agencies/{agency}/resume", (403, 403, 403, 403)),
    ("POST", "/agencies/{agency}/verify"): ("/agencies/{agency}/verify", (403, 403, 403, 403)),
    ("POST", "/agencies/{agency}/test"): ("/agencies/{agency}/test", (LET, 403, 403, 403)),
    ("POST", "/agencies/{agency}/replay"): ("/agencies/{agency}/replay", (403, 403, 403, 403)),
    ("POST", "/agencies/{agency}/rotate-key"): ("/agencies/{agency}/rotate-key", (403, 403, 403, 403)),
    ("POST", "/agencies/{agency}/feed-key"): ("/agencies/{agency}/feed-key", (403, 403, 403, 403)),
    ("POST", "/agencies/{agency}/revoke-key"): ("/agencies/{agency}/revoke-key", (403, 403, 403, 403)),
    ("GET", "/subscriptions/{subscription}"): ("/subscriptions/{grant}", (LET, 403, LET, 403)),
    ("GET", "/subscriptions/{subscription}/edit"): ("/subscriptions/{draft}/edit", (LET, 403, 403, 403)),
    ("POST", "/subscriptions/{subscription}/edit"): ("/subscriptions/{draft}/edit", (LET, 403, 403, 403)),
    ("POST", "/subscriptions/{subscription}/{action}"): ("/subscriptions/{grant}/suspend", (403, 403, LET, 403)),
    ("POST", "/subscriptions/{subscription}/dry-run"): ("/subscriptions/{grant}/dry-run", (LET, 403, LET, 403)),
    ("GET", "/subscriptions/{subscription}/dry-run/{identity}"): (
        "/subscriptions/{grant}/dry-run/{job}",
        (LET, 404, LET, 404),
    ),
    ("GET", "/jobs/{identity}"): ("/jobs/{job}", (LET, 404, LET, 404)),
    ("GET", "/live/jobs/{identity}"): ("/live/jobs/{job}", (LET, 404, LET, 404)),
    ("GET", "/parked/{agency}/{offset:int}"): ("/parked/{agency}/0", (LET, 403, 403, 403)),
    ("POST", "/parked/{agency}/replay"): ("/parked/{agency}/replay#offset/0", (LET, 403, 403, 403)),
    ("GET", "/parked/{agency}/replayed/{identity}"): ("/parked/{agency}/replayed/{job}", (None, 404, None, 404)),
    ("GET", "/dead-letters/{stage}/{offset:int}"): ("/dead-letters/router/{letter}", (403, 403, LET, 403)),
    ("POST", "/dead-letters/{stage}/{offset:int}"): ("/dead-letters/router/{letter}", (403, 403, LET, 403)),
    ("GET", "/dead-letters/resubmitted/{identity}"): ("/dead-letters/resubmitted/{job}", (None, 404, None, 404)),
}
"""What each side is answered about an object of its own, and about one of another's; None where it has none."""
SIDED = frozenset({"agency", "department"})
NOBODYS = frozenset(
    {
        "/static/{name}",
        "/catalogue/{type}",
        "/catalogue/{type}/versions/{number}",
        "/month/{month}/adjustments/{identity}",
        "/month/{month}/report/{form}/{identity}",
    }
)
"""What is everybody's alike, or the work of who has begun it and may see figures."""
