"""``/subjects``, ``/schemas`` and ``/compatibility`` of the Confluent REST API.

Routes that only read memory are coroutines: they answer whatever the threads wait for that write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import APIRouter, Response

from schemas.registry_client import CONTENT_TYPE
from services.registry.compatibility import incompatibilities
from services.registry.log import RegistryLog
from services.registry.requests import (
    Deleted,
    DeletedOnly,
    LatestOnly,
    Limit,
    Offset,
    Prefix,
    SchemaIn,
    SubjectIn,
    page,
)
from services.registry.state import Deletion, RefusedError, Version, parsed_schema, unknown_schema

events = structlog.get_logger()


def _described(version: Version) -> dict[str, Any]:
    return {
        "subject": version.subject,
        "version": version.version,
        "id": version.id,
        "schemaType": "AVRO",
        "schema": version.text,
    }


def _verbatim(text: str) -> Response:
    return Response(text, media_type=CONTENT_TYPE)


def subject_routes(log: RegistryLog) -> APIRouter:
    """Return the routes that read subjects and their versions."""
    router = APIRouter()

    @router.get("/subjects")
    async def subjects(
        prefix: Prefix = "", deleted: Deleted = False, only: DeletedOnly = False, offset: Offset = 0, limit: Limit = -1
    ) -> list[str]:
        start = "" if prefix == ":*:" else prefix  # what clients with contexts send for all of them
        with log.reading() as state:
            return page(state.subjects(start, deleted=deleted, deleted_only=only), offset, limit)

    @router.get("/subjects/{subject}/versions")
    async def versions(
        subject: SubjectIn, deleted: Deleted = False, only: DeletedOnly = False, offset: Offset = 0, limit: Limit = -1
    ) -> list[int]:
        with log.reading() as state:
            found = state.versions(subject, deleted=deleted, deleted_only=only)
        return page([v.version for v in found], offset, limit)

    @router.get("/subjects/{subject}/versions/{version}")
    async def version(subject: SubjectIn, version: str, deleted: Deleted = False) -> dict[str, Any]:
        with log.reading() as state:
            return _described(state.version(subject, version, deleted=deleted))

    @router.get("/subjects/{subject}/versions/{version}/schema")
    async def version_schema(subject: SubjectIn, version: str, deleted: Deleted = False) -> Response:
        with log.reading() as state:
            return _verbatim(state.version(subject, version, deleted=deleted).text)

    @router.get("/subjects/{subject}/versions/{version}/referencedby")
    async def referenced_by(subject: SubjectIn, version: str) -> list[int]:
        with log.reading() as state:
            state.version(subject, version, deleted=True)
        return []  # references are not supported, so there are none

    @router.post("/subjects/{subject}")
    def lookup(subject: SubjectIn, body: SchemaIn, deleted: Deleted = False) -> dict[str, Any]:
        text = body.text()
        with log.reading() as state:
            state.versions(subject, deleted=deleted)
            found = state.find(subject, text, deleted=deleted)
        if found is None:
            raise unknown_schema()
        return _described(found)

    return router


def schema_routes(log: RegistryLog) -> APIRouter:
    """Return the routes that read schemas by their id."""
    router = APIRouter()

    @router.get("/schemas/types")
    async def types() -> list[str]:
        return ["AVRO"]

    @router.get("/schemas")
    async def schemas(
        prefix: Prefix = "", deleted: Deleted = False, latest: LatestOnly = False, offset: Offset = 0, limit: Limit = -1
    ) -> list[dict[str, Any]]:
        with log.reading() as state:
            held = [state.versions(name, deleted=deleted) for name in state.subjects(prefix, deleted=deleted)]
        return page([_described(v) for vs in held for v in (vs[-1:] if latest else vs)], offset, limit)

    @router.get("/schemas/ids/{schema_id:int}")
    async def by_id(schema_id: int) -> dict[str, Any]:
        return {"schema": await _text(log, schema_id)}

    @router.get("/schemas/ids/{schema_id:int}/schema")
    async def by_id_schema(schema_id: int) -> Response:
        return _verbatim(await _text(log, schema_id))

    @router.get("/schemas/ids/{schema_id:int}/subjects")
    async def by_id_subjects(schema_id: int, deleted: Deleted = False) -> list[str]:
        return sorted({v.subject for v in await _versions_of(log, schema_id, deleted=deleted)})

    @router.get("/schemas/ids/{schema_id:int}/versions")
    async def by_id_versions(schema_id: int, deleted: Deleted = False) -> list[dict[str, Any]]:
        found = await _versions_of(log, schema_id, deleted=deleted)
        return [{"subject": v.subject, "version": v.version} for v in found]

    return router


async def _text(log: RegistryLog, schema_id: int) -> str:
    """Return a schema's text; one that is not known here may just not be folded yet, so the log's end is awaited."""
    for last in (False, True):
        with log.reading() as state:
            text = state.schemas.get(schema_id)
        if text is not None:
            return text
        if not last:
            await asyncio.to_thread(log.catch_up)
    raise unknown_schema(schema_id)


async def _versions_of(log: RegistryLog, schema_id: int, *, deleted: bool) -> list[Version]:
    await _text(log, schema_id)
    with log.reading() as state:
        return state.versions_of(schema_id, deleted=deleted)


def writing_routes(log: RegistryLog) -> APIRouter:
    """Return the routes that register and delete."""
    router = APIRouter()

    @router.post("/subjects/{subject}/versions")
    def register(subject: SubjectIn, body: SchemaIn) -> dict[str, Any]:
        body.check_unnumbered()
        text = body.text()
        with log.reading() as state:
            known = state.find(subject, text)
        return {"id": known.id if known else _register(log, subject, text).id}

    @router.delete("/subjects/{subject}")
    def delete_subject(subject: SubjectIn, permanent: bool = False) -> Sequence[int]:
        return _delete(log, {"subject": subject, "permanent": permanent})

    @router.delete("/subjects/{subject}/versions/{version}")
    def delete_version(subject: SubjectIn, version: str, permanent: bool = False) -> int:
        with log.reading() as state:
            number = state.version(subject, version, deleted=True).version
        return _delete(log, {"subject": subject, "version": number, "permanent": permanent})[0]

    return router


def _register(log: RegistryLog, subject: str, text: str) -> Version:
    try:
        outcome = log.append({"kind": "register", "subject": subject, "schema": text})
    except RefusedError as refusal:
        events.warning("schema_refused", subject=subject, reason=str(refusal))
        raise
    if not isinstance(outcome, Version):
        raise TypeError(f"a registration ended as {outcome}")
    events.info("schema_registered", subject=subject, version=outcome.version, id=outcome.id)
    return outcome


def _delete(log: RegistryLog, what: dict[str, Any]) -> Sequence[int]:
    outcome = log.append({"kind": "delete", **what})
    if not isinstance(outcome, Deletion):
        raise TypeError(f"a deletion ended as {outcome}")
    events.info("schema_deleted", **what, versions=list(outcome.versions))
    return outcome.versions


def compatibility_routes(log: RegistryLog) -> APIRouter:
    """Return the routes that check before registering."""
    router = APIRouter()

    @router.post("/compatibility/subjects/{subject}/versions/{version}")
    def with_version(subject: SubjectIn, version: str, body: SchemaIn, verbose: bool = False) -> dict[str, Any]:
        return _verdict(log, subject, body.text(), version, verbose=verbose)

    @router.post("/compatibility/subjects/{subject}/versions")
    def with_subject(subject: SubjectIn, body: SchemaIn, verbose: bool = False) -> dict[str, Any]:
        return _verdict(log, subject, body.text(), None, verbose=verbose)

    return router


def _verdict(log: RegistryLog, subject: str, text: str, version: str | None, *, verbose: bool) -> dict[str, Any]:
    parsed = parsed_schema(text)
    with log.reading() as state:
        level = state.levels.of(subject)
        known = subject in state.subjects()
        if version is None or (version == "latest" and not known):
            earlier = state.versions(subject) if known else []
        else:
            earlier = [state.version(subject, version)]
    messages = incompatibilities(level, parsed, [(v.version, v.parsed) for v in earlier])
    return {"is_compatible": not messages} | ({"messages": messages} if verbose else {})
