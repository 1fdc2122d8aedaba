"""``/config`` and ``/mode`` of the Confluent REST API: compatibility levels, and whether anything may be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from fastapi import APIRouter

from services.registry.log import RegistryLog
from services.registry.requests import DefaultToGlobal, JsonBody, SubjectIn
from services.registry.state import Changed, RefusedError, RegistryState, Setting, check_level, check_mode

events = structlog.get_logger()


def level_routes(log: RegistryLog) -> APIRouter:
    """Return the routes of compatibility levels."""

    def given(body: dict[str, Any]) -> str:
        return check_level(_only(body, "compatibility"))

    return _routes(log, "level", "config", ("compatibilityLevel", "compatibility"), given)


def mode_routes(log: RegistryLog) -> APIRouter:
    """Return the routes of modes."""

    def given(body: dict[str, Any]) -> str:
        return check_mode(_only(body, "mode"))

    return _routes(log, "mode", "mode", ("mode", "mode"), given)


def _only(body: dict[str, Any], key: str) -> object:
    """Return the one value that is kept; raises RefusedError for others, which would be dropped in silence."""
    others = sorted(name for name, value in body.items() if name != key and value not in (None, False))
    if others:
        raise RefusedError(422, 42201, f"Not supported by this registry: {', '.join(others)}")
    return body.get(key)


def _setting(state: RegistryState, kind: str) -> Setting:
    return state.levels if kind == "level" else state.modes


def _not_configured(kind: str, subject: str) -> RefusedError:
    code, name = (40408, "compatibility") if kind == "level" else (40409, "mode")
    return RefusedError(404, code, f"Subject '{subject}' does not have subject-level {name} configured")


def _routes(
    log: RegistryLog, kind: str, path: str, keys: tuple[str, str], given: Callable[[dict[str, Any]], str]
) -> APIRouter:
    router = APIRouter()
    told, set_key = keys

    def change(subject: str | None, value: str | None) -> Changed:
        outcome = log.append({"kind": kind, "subject": subject, "value": value})
        if not isinstance(outcome, Changed):
            raise TypeError(f"a change ended as {outcome}")
        events.info("registry_setting_changed", setting=kind, subject=subject, value=value, before=outcome.before)
        return outcome

    @router.get(f"/{path}")
    async def get_overall() -> dict[str, str]:
        with log.reading() as state:
            return {told: _setting(state, kind).of()}

    @router.put(f"/{path}")
    def put_overall(body: JsonBody) -> dict[str, str]:
        value = given(body)
        change(None, value)
        return {set_key: value}

    @router.delete(f"/{path}")
    def delete_overall() -> dict[str, str]:
        return {told: change(None, None).before}

    @router.get(f"/{path}/{{subject}}")
    async def get_one(subject: SubjectIn, default: DefaultToGlobal = False) -> dict[str, str]:
        with log.reading() as state:
            setting = _setting(state, kind)
            if subject not in setting.by_subject and not default:
                raise _not_configured(kind, subject)
            return {told: setting.of(subject)}

    @router.put(f"/{path}/{{subject}}")
    def put_one(subject: SubjectIn, body: JsonBody) -> dict[str, str]:
        value = given(body)
        change(subject, value)
        return {set_key: value}

    @router.delete(f"/{path}/{{subject}}")
    def delete_one(subject: SubjectIn) -> dict[str, str]:
        with log.reading() as state:
            if subject not in _setting(state, kind).by_subject:
                raise _not_configured(kind, subject)
        return {told: change(subject, None).before}

    return router
