"""What the makers of all sections stand on: chance, targets and periods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from random import Random

from producers.simulation.departments import simulated_code
from producers.simulation.scribe import Period, Row, Scribe
from schemas.formats import divisions

PROVINCE = "510000"


@dataclass(frozen=True)
class Ground:
    """Chance, counts to make by metric id, the rate's bounds, the month and the year up to its end."""

    scribe: Scribe
    targets: Mapping[str, int]
    rate: tuple[Decimal, Decimal]
    month: Period
    year: Period

    @property
    def random(self) -> Random:
        """The source of chance."""
        return self.scribe.random

    @cached_property
    def cities(self) -> list[str]:
        """The divisions of cities and prefectures."""
        return [code for code in divisions() if code != PROVINCE]

    @property
    def prefix(self) -> str:
        """What numbers begin with: synthetic, and of this month."""
        return f"SYN-{self.month[0] + timedelta(days=1):%Y%m}"

    @property
    def before_year(self) -> Period:
        """The four months before the year, which no figure of the year counts."""
        return self.year[0] - timedelta(days=120), self.year[0]

    @property
    def after(self) -> Period:
        """The ten days after the month."""
        return self.month[1], self.month[1] + timedelta(days=10)

    def parts(self, total: int, count: int) -> list[int]:
        """Part a total by chance into that many numbers of at least one, as far as it goes."""
        count = min(count, total)
        cuts = sorted(self.random.sample(range(1, total), count - 1)) if count > 1 else []
        return [high - low for low, high in zip([0, *cuts], [*cuts, total], strict=True)]

    def enterprise(self, number: int) -> Row:
        """Return an enterprise's fields."""
        return {"enterprise_uscc": simulated_code("91", number), "enterprise_name": f"合成企业{number} (synthetic)"}

    def choose(self, items: Sequence[str]) -> str:
        """Return one of these."""
        return self.random.choice(items)
