"""How a figure is shown: half-up decimals, and the 万 rule (domain rule 10.3). Exact values are kept; never floats."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

TEN_THOUSAND = 10_000

ShownUnit = Literal["万件", "人/次"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as it is printed."""

    value: str
    unit: str


def round_half_up(value: Decimal, decimals: int) -> Decimal:
    """Round with ties away from zero."""
    return value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def shown(exact: int, unit: ShownUnit) -> Shown:
    """Return how a count is printed.

    万件: in ten thousands, one decimal when the count is 10 000 or more, else two. 人/次 is exact.
    """
    if unit == "人/次":
        return Shown(str(exact), unit)
    decimals = 1 if exact >= TEN_THOUSAND else 2
    return Shown(str(round_half_up(Decimal(exact) / TEN_THOUSAND, decimals)), unit)
