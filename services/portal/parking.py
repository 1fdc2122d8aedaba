"""Parked events for people: an agency's own for its people, all of them for who operates; put back with a reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.codec import Codec, UndecodableValue, to_jsonable
from schemas.contracts import Contracts
from schemas.registry_client import RegistryAway, RegistryError
from services.portal.seen import SeenField, personal_fields, seen_fields
from services.quarantine.parked import MOST_REPLAYED, Parked, ParkingPlace
from services.runtime.errors import ConflictError, FieldProblem, ForbiddenError, InvalidError, RegistryUnavailableError

NEWEST = 2000
"""Of each agency so many of the newest are looked through."""
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parked events to show: of an agency, of a type, by status, by words; those put back, or the others."""

    agency: str | None = None
    type: str | None = None
    status: str | None = None
    text: str | None = None
    replayed: bool = False

    def fits(self, one: Parked) -> bool:
        """Tell whether it is among those."""
        return (
            self.type in {None, one.type}
            and self.status in {None, one.status}
            and self.replayed is (one.replayed is not None)
            and (self.text is None or any(self.text in t for t in (one.event_id, one.subject, one.reason)))
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found, the newest first: so many that fit, of which the first are shown."""

    shown: Sequence[Parked]
    fitting: int
    waiting: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Looked:
    """One parked event as somebody sees it; ``personal`` are the personal fields that they were shown."""

    parked: Parked
    attributes: Mapping[str, str]
    fields: Sequence[SeenField]
    unreadable: str | None
    personal: Sequence[str]


class Parking:
    """What pages do with parked events. ``side`` is the agency whose people ask, None for who operates."""

    def __init__(self, place: ParkingPlace, codec: Codec, contracts: Contracts) -> None:
        self._place = place
        self._codec = codec
        self._contracts = contracts

    def listing(self, side: str | None, wanted: Wanted) -> Listing:
        """Return what is parked; raises NotFoundError, ForbiddenError (another agency's) or UnavailableError."""
        agency = wanted.agency or side
        if agency is not None:
            self._check(side, agency)
        kept = self._place.several([agency] if agency else self._place.agencies(), NEWEST)
        found = kept if side is None else [one.whole() for one in kept]
        waiting: dict[str, int] = {}
        for one in found:
            waiting[one.agency] = waiting.get(one.agency, 0) + (one.replayed is None)
        fitting = sorted((one for one in found if wanted.fits(one)), key=lambda one: one.parked_at, reverse=True)
        return Listing(fitting[:SHOWN], len(fitting), {name: n for name, n in sorted(waiting.items()) if n})

    def look(self, side: str | None, agency: str, offset: int) -> Looked:
        """Return one; its agency's people see all that was on its way to them, others nothing personal."""
        self._check(side, agency)
        parked, record = self._place.look(agency, offset)
        data, unreadable = self._data(record.value)
        contract = self._contracts.types.get(parked.type)
        whole = side == agency
        parked = parked.whole() if whole else parked
        attributes = {
            name.removeprefix("ce_"): value.decode(errors="replace")
            for name, value in record.headers
            if name.startswith("ce_") and value is not None
        }
        fields = seen_fields(data, contract, whole=whole)
        return Looked(parked, attributes, fields, unreadable, personal_fields(data, contract) if whole else ())

    def replay(self, side: str | None, agency: str, offsets: Collection[int], reason: str, by: str) -> dict[str, Any]:
        """Put events back at the end of the agency's feed; those that were before, or have been superseded, stay.

        Raises InvalidError (none, or too many), ConflictError (all of them were), ForbiddenError or NotFoundError.
        """
        self._check(side, agency)
        if not 0 < len(offsets) <= MOST_REPLAYED:
            detail = f"选 1 至 {MOST_REPLAYED} 个 (choose from one to this many)"
            raise InvalidError([FieldProblem("/offsets", detail)])
        waiting = {one.offset for one in self._place.several([agency]) if one.replayed is None}
        before = sorted(set(offsets) - waiting)
        if len(before) == len(offsets):
            raise ConflictError("所选的都已放回过 (all of these were put back before)")
        told = self._place.replay_all(agency, sorted(set(offsets) & waiting), reason, by)
        back = [offset for offset in sorted(set(offsets) & waiting) if offset not in told]
        return {"agency": agency, "back": back, "superseded": told, "before": before}

    @staticmethod
    def _check(side: str | None, agency: str) -> None:
        if side not in {None, agency}:
            raise ForbiddenError(f"{agency} 停放的事件不归 {side} 看 (not theirs to see)")

    def _data(self, value: bytes | None) -> tuple[dict[str, Any], str | None]:
        try:
            return to_jsonable(self._codec.decode(value).data), None
        except UndecodableValue as error:
            return {}, str(error)
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        except RegistryError as error:
            return {}, str(error)
