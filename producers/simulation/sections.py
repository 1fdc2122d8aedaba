"""The events behind the bulletin's other sections: activities, inventories, support policies, the enterprise centre.

Like a month of window cases they hold what must not count: other programmes, cities' own items, other years, the days
around the month, repeats, revisions that replace what was said before, and items that have expired.
"""

from __future__ import annotations

from random import Random

from producers.simulation.activities import activities
from producers.simulation.ground import Ground
from producers.simulation.inventories import inventories
from producers.simulation.policies import policies
from producers.simulation.projects import projects
from producers.simulation.scribe import Scribe, SimulatedFile
from producers.simulation.targets import rate_bounds, section_targets
from schemas.times import month_bounds


def section_files(year: int, month: int, seed: int, scale: float) -> list[SimulatedFile]:
    """Return the files, one a type; those that count by the year hold the year up to the month's end."""
    name = f"{year}-{month:02d}"
    random = Random(f"{name}/{seed}/sections")  # noqa: S311  (a simulation, not a secret)
    begin, end = month_bounds(year, month)
    january, _ = month_bounds(year, 1)
    ground = Ground(
        Scribe(random),
        section_targets(name, random, scale),
        rate_bounds(name, "project_speedup_rate", random),
        (begin, end),
        (january, end),
    )
    return [*activities(ground), *inventories(ground), *policies(ground), *projects(ground)]
