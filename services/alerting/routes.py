"""Who is told of what, by which way: a YAML file of routes, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, field_validator

from services.alerting.groups import Group
from services.delivery.signing import signature
from services.runtime.alerts import AlertKind
from services.runtime.errors import FieldProblem, HongyanError, InvalidError
from services.runtime.mistakes import bad_fields

Address = Annotated[str, StringConstraints(pattern=r"^[^@\s,;<>]+@[^@\s,;<>]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Webhook(_Part):
    """Where alerts are posted, signed by Standard Webhooks with ``secret`` (whsec_… or whsk_…)."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://")]
    secret: SecretStr


class Route(_Part):
    """Some people: whatever is given of severities, kinds and subjects (agencies) limits what they are told of."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    mail: tuple[Address, ...] = ()
    webhook: Webhook | None = None
    severities: tuple[Literal["warning", "critical"], ...] = ()
    kinds: tuple[AlertKind, ...] = ()
    subjects: tuple[str, ...] = ()

    def wants(self, group: Group) -> bool:
        """Tell whether these people are told of this."""
        return (
            (not self.severities or group.severity in self.severities)
            and (not self.kinds or group.kind in self.kinds)
            and (not self.subjects or group.subject in self.subjects)
        )


class Routes(_Part):
    """All routes. Who is named by several of them is told once."""

    routes: Annotated[tuple[Route, ...], Field(min_length=1)]

    @field_validator("routes")
    @classmethod
    def _have_names_of_their_own(cls, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        names = [route.name for route in routes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"名称重复 (names that are used twice): {', '.join(twice)}")
        return routes


NO_ROUTES = Routes.model_construct(routes=())


def read_routes(file: Path | None) -> Routes:
    """Read the file; none where none is named. Raises HongyanError or InvalidError that names each bad field."""
    if file is None:
        return NO_ROUTES
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise HongyanError(f"告警路由 {file} 读不出 (the file of routes can't be read): {error}") from error
    try:
        routes = Routes.model_validate(found)
    except ValidationError as error:
        raise InvalidError(bad_fields(error.errors(), f"{file.name}:")) from error
    _check_secrets(file, routes)
    return routes


def _check_secrets(file: Path, routes: Routes) -> None:
    for number, route in enumerate(routes.routes):
        if route.webhook is not None:
            try:
                signature(route.webhook.secret.get_secret_value(), "", 0, b"")
            except ValueError as error:
                where = f"{file.name}:/routes/{number}/webhook/secret"
                raise InvalidError([FieldProblem(where, f"不是密钥 (no key): {error}")]) from error
