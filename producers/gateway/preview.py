"""``dry_run``: who would receive an event, by the same configuration and the same matching as the router's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from producers.gateway.acceptance import Refused
from producers.gateway.parsing import Parsed
from producers.publishing import Prepared
from schemas.codec import Decoded
from schemas.contracts import Contracts
from schemas.registry_client import RegistryAway
from services.routing.matching import Matcher
from services.runtime.clock import Clock
from services.runtime.errors import RegistryUnavailableError
from services.subscriptions.control import ControlView

NOTE = (
    "未发布任何事件。更正、收回、撤销一类事件还会送达原事件的全部接收单位，此处无从知晓 "
    "(nothing was published; a follow-up also goes to everyone who got the original, which only the router knows)"
)


class Preview:
    """Says where events would go."""

    def __init__(
        self, view: ControlView, decode: Callable[[bytes], Decoded], contracts: Contracts, clock: Clock
    ) -> None:
        self._view = view
        self._decode = decode
        self._follow_ups, self._unshared = contracts.follow_up_types(), contracts.unshared_types()
        self._clock = clock
        self._version = -1
        self._matcher = Matcher((), clock.now)

    def answer(self, events: Sequence[Parsed], checked: Sequence[Prepared | Refused]) -> dict[str, Any]:
        """Return each event's receivers, or why it would be refused; raises RegistryUnavailableError."""
        listed = [
            {"index": n, "id": event.attributes.get("id"), **self._one(found)}
            for n, (event, found) in enumerate(zip(events, checked, strict=True))
        ]
        return {"dry_run": True, "accepted": 0, "events": listed, "note": NOTE}

    def _one(self, found: Prepared | Refused) -> Mapping[str, Any]:
        if isinstance(found, Refused):
            errors = [{"pointer": p.pointer, "detail": p.detail} for p in found.problems]
            return {"status": found.status, "errors": errors}
        attributes = found.attributes
        return {
            "status": 202,
            "type": attributes["type"],
            "subject": attributes["subject"],
            "division": attributes.get("division"),
            "quality": list(found.quality),
            "follow_up": attributes["type"] in self._follow_ups or "follows" in attributes,
            "receivers": self._receivers(found),
        }

    def _receivers(self, event: Prepared) -> list[dict[str, Any]]:
        try:
            matched = self._current().match(event.attributes, lambda: self._decode(event.value).data)
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        agencies = self._view.agencies
        return [
            {
                "agency": agency,
                "name": agencies[agency].name if agency in agencies else agency,
                "state": agencies[agency].state if agency in agencies else "unknown",
                "subscriptions": subscriptions,
            }
            for agency, subscriptions in sorted(matched.items())
        ]

    def _current(self) -> Matcher:
        # The version is read before the entries: a change in between makes the next call build again.
        version = self._view.version
        if version != self._version:
            known = list(self._view.subscriptions.values())
            self._matcher = Matcher(known, self._clock.now, self._view.agencies, self._unshared)
            self._version = version
        return self._matcher
