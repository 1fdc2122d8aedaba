"""Says why an event goes to an agency or not, right by right and filter by filter; the matcher has the last word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from schemas.contracts import EventContract
from schemas.envelope import RECEIVERS, RECEIVERS_SEPARATOR
from services.routing.filters import Attributes, Data, compile_filter
from services.routing.matching import OPEN_STATES, Matcher, reach
from services.runtime.errors import InvalidError
from services.subscriptions.control import Agency, Subscription
from services.subscriptions.lifecycle import State, shown_state


def explained(
    subscription: Subscription,
    agency: str,
    agencies: Mapping[str, Agency],
    contract: EventContract | None,
    attributes: Attributes,
    data: Data,
    now: datetime,
) -> dict[str, Any]:
    """Return whether a subscription would match an event now, with every right and every filter that it hangs on."""
    unshared = [contract.type] if contract is not None and contract.catalogue.sharing == "none" else []
    matcher = Matcher([subscription], lambda: now, agencies, unshared)
    return {
        "subscription": subscription.id,
        "version": subscription.version,
        "matches": agency in matcher.match(attributes, data),
        "rights": rights(subscription, agency, agencies, contract, attributes, now),
        "filters": [verdict(one, attributes, data) for one in subscription.filters],
    }


def rights(
    subscription: Subscription,
    agency: str,
    agencies: Mapping[str, Agency],
    contract: EventContract | None,
    attributes: Attributes,
    now: datetime,
) -> list[dict[str, Any]]:
    """Return every right that is looked at, whether it holds, and what it was held against."""
    kept = cast(State, subscription.state)
    state = shown_state(kept, subscription.begins_at(), subscription.expires_at(), now)
    named = attributes.get(RECEIVERS)
    own, known = agency == subscription.agency, agencies[agency]
    scope = reach(subscription, agency, agencies)
    division = attributes.get("division")
    sharing = contract.catalogue.sharing if contract is not None else "unknown"
    found = [
        ("type", attributes["type"] in subscription.types, ", ".join(subscription.types)),
        ("state", state == "active", state),
        ("sharing", sharing != "none", sharing),
        ("receivers", named is None or agency in named.split(RECEIVERS_SEPARATOR), named or "不限 (any)"),
        (
            "division",
            scope is not None and (division is None or division.startswith(scope)),
            f"{division} ∈ {', '.join(scope or ['无 (nothing)'])}",
        ),
        ("agency", known.state in OPEN_STATES, known.state),
        ("holder", own or agency in subscription.forward_to, subscription.agency),
    ]
    return [{"right": name, "holds": holds, "said": said} for name, holds, said in found]


def verdict(expression: Mapping[str, Any], attributes: Attributes, data: Data) -> dict[str, Any]:
    """Return what a filter says of an event, and what each filter inside it says."""
    failed: list[bool] = []
    try:
        holds = compile_filter(expression, lambda: failed.append(True), "")(attributes, data) is True
    except InvalidError as error:
        return {"filter": expression, "holds": False, "failed": str(error)}
    found: dict[str, Any] = {"filter": expression, "holds": holds}
    if failed:
        found["failed"] = "不能求值，视为不匹配 (could not be evaluated, so it has not matched)"
    ((dialect, operand),) = expression.items()
    inner: Sequence[Mapping[str, Any]] = operand if dialect in {"all", "any"} else [operand] if dialect == "not" else ()
    if inner:
        found["inner"] = [verdict(one, attributes, data) for one in inner]
    return found
