"""The bulletin's frame (``bulletin.yaml``): title, issuer, headings, recipients, charts; its number and its date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.times import SHANGHAI
from schemas.working_days import CalendarEndsError, add_working_days
from services.reporting.bulletin import ChartKind
from services.runtime.errors import FieldProblem, InvalidError
from services.statistics.figure import Month

FILE = "bulletin.yaml"
DEFAULT_FILE = Path(__file__).with_name(FILE)


class ChartWanted(BaseModel):
    """A chart: of which metric, by which dimension; a line is over months."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ChartKind
    metric: str
    title: str
    by: str | None = None
    top: Annotated[int, Field(ge=1, le=30)] | None = None
    months: Annotated[int, Field(ge=2, le=36)] = 12
    metrics: tuple[str, ...] = ()


class Masthead(BaseModel):
    """The frame of every issue. ``leave_out`` names the files of metrics that it has no room for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    issuer: str
    issued_after_working_days: Annotated[int, Field(ge=0, le=60)]
    section_one: str
    sections: Mapping[str, str]
    report_to: str
    send_to: str
    leave_out: tuple[str, ...] = ()
    charts: tuple[ChartWanted, ...] = ()


def read_masthead(folder: Path) -> Masthead:
    """Return the frame: the folder's own, else the one that ships; raises InvalidError."""
    path = folder / FILE
    path = path if path.exists() else DEFAULT_FILE
    try:
        return Masthead.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidError([FieldProblem(str(path), f"不能读取 (can't be read): {error}")]) from error
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [FieldProblem(f"{path}: {'/'.join(map(str, one['loc']))}", str(one["msg"])) for one in details]
        raise InvalidError(problems) from error


def issue_number(month: Month) -> int:
    """Return the number of a month's issue: one a month, counted from one each year."""
    return month.month


def issue_date(month: Month, working_days: int) -> date:
    """Return the day an issue is dated: so many working days after its month's last day; raises InvalidError."""
    last = month.bounds[1].astimezone(SHANGHAI).date() - timedelta(days=1)
    try:
        return add_working_days(last, working_days)
    except CalendarEndsError as error:
        detail = f"{error}；或用 --issued 给出日期 (or give the date by --issued)"
        raise InvalidError([FieldProblem("/issued", detail)]) from error
