"""Departments of a simulated window hall. Names are of real provincial departments; codes are made up and valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.formats import uscc_check_character

_SHARES: Sequence[tuple[str, int]] = (
    ("省市场监管局", 22),
    ("省人力资源社会保障厅", 16),
    ("住房城乡建设厅", 12),
    ("交通运输厅", 9),
    ("省卫生健康委", 8),
    ("省药监局", 6),
    ("公安厅", 6),
    ("教育厅", 5),
    ("自然资源厅", 4),
    ("应急管理厅", 3),
    ("省林草局", 2),
    ("水利厅", 2),
    ("商务厅", 2),
    ("省广电局", 1),
    ("省中医药管理局", 1),
    ("四川省税务局", 1),
)


@dataclass(frozen=True, slots=True)
class SimulatedDepartment:
    """A department with its share of the cases and the code of one of its service items."""

    name: str
    code: str
    share: int
    task_codes: Sequence[str]


def departments() -> list[SimulatedDepartment]:
    """Return the departments."""
    return [_department(n, name, share) for n, (name, share) in enumerate(_SHARES, start=1)]


def simulated_code(kind: str, number: int, division: str = "510000") -> str:
    """Return a valid, made-up USCC; ``kind`` is 11 for an authority and 91 for an enterprise."""
    body = f"{kind}{division}TE5T{number:05d}"
    return f"{body}{uscc_check_character(body)}"


def _department(number: int, name: str, share: int) -> SimulatedDepartment:
    code = simulated_code("11", number)
    return SimulatedDepartment(name, code, share, [f"{code}1{number:04d}{item:08d}" for item in range(1, 6)])
