"""How a figure is shown: half-up decimals, and the 万 rule (domain rule 10.3). Exact values are kept; never floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

TEN_THOUSAND = 10_000
NOT_DEFINED = "—"
"""What is shown where a figure has no value, such as a rate of nothing."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as it is printed."""

    value: str
    unit: str


@dataclass(frozen=True, slots=True)
class RoundingRule:
    """How one kind of figure is shown: in units of ``size``, with so many decimals.

    ``small_decimals`` hold where fewer than one unit is shown. An empty ``unit`` is the metric's own.
    """

    unit: str = ""
    size: Decimal = Decimal(1)
    decimals: int = 0
    small_decimals: int | None = None

    def show(self, exact: Decimal | int | None, unit: str) -> Shown:
        """Return how an exact value is printed; ``unit`` is the metric's own."""
        shown_unit = self.unit or unit
        if exact is None:
            return Shown(NOT_DEFINED, shown_unit)
        value = Decimal(exact) / self.size
        small = self.small_decimals is not None and abs(value) < 1
        decimals = self.small_decimals if small and self.small_decimals is not None else self.decimals
        return Shown(f"{round_half_up(value, decimals):f}", shown_unit)


RULES: Mapping[str, RoundingRule] = {
    "exact": RoundingRule(),
    "万件": RoundingRule("万件", Decimal(TEN_THOUSAND), 1, 2),
    "万元": RoundingRule("万元", Decimal(TEN_THOUSAND), 1),
    "亿元": RoundingRule("亿元", Decimal(100_000_000), 2),
    "%": RoundingRule("%", Decimal("0.01"), 2),
    "一位小数": RoundingRule(decimals=1),
    "两位小数": RoundingRule(decimals=2),
}
"""The rounding rules by the name that a definition gives."""


def round_half_up(value: Decimal, decimals: int) -> Decimal:
    """Round with ties away from zero."""
    return value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
