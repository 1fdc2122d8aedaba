"""The Confluent schema registry's REST API, as its stock clients use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field

from schemas.registry_client import CONTENT_TYPE
from services.registry.log import RegistryLog
from services.registry.state import Refused, RegistryState, Version, canonical, valid_level
from services.runtime.errors import UnavailableError
from services.runtime.probes import Health
from services.runtime.web import new_app

SubjectPath = Annotated[str, Path()]


class SchemaBody(BaseModel):
    """A schema as clients send it."""

    schema_: str = Field(alias="schema")
    schemaType: Literal["AVRO", "PROTOBUF", "JSON"] = "AVRO"  # noqa: N815  (the API's name)
    references: list[dict[str, Any]] = []

    def text(self) -> str:
        """Return the canonical text; raises Refused for what this registry does not keep."""
        if self.schemaType != "AVRO":
            raise Refused(422, 42201, f"Invalid schema: this registry keeps AVRO, not {self.schemaType}")
        if self.references:
            raise Refused(422, 42201, "Invalid schema: schema references are not supported; inline the named types")
        return canonical(self.schema_)


def create_app(log: RegistryLog, metrics: CollectorRegistry) -> FastAPI:
    """Return the application over a log that is being folded."""
    app = new_app("Hongyan schema registry", _health(log), metrics)
    app.include_router(_reading(log))
    app.include_router(_writing(log))

    @app.exception_handler(Refused)
    def _refused(_request: Request, error: Refused) -> JSONResponse:
        return _error(error.status, error.code, str(error))

    @app.exception_handler(UnavailableError)
    def _away(_request: Request, error: UnavailableError) -> JSONResponse:
        return _error(503, 50003, f"Error while forwarding the request: {error}", {"Retry-After": "2"})

    @app.exception_handler(RequestValidationError)
    def _bad(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _error(422, 42201, f"Invalid request: {error.errors()[0]['msg']}")

    return app


def _error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": message}, status, headers, CONTENT_TYPE)


def _health(log: RegistryLog) -> Callable[[], Health]:
    return lambda: Health(log.ready.is_set(), {"schemas": len(log.state.schemas)})


def _version(version: Version) -> dict[str, Any]:
    return {
        "subject": version.subject,
        "version": version.version,
        "id": version.id,
        "schemaType": "AVRO",
        "schema": version.text,
    }


def _known_id(log: RegistryLog, schema_id: int) -> str:
    """Return a schema; an id that is not known here may just not be folded yet, so the log's end is awaited first."""
    if schema_id not in log.state.schemas:
        log.catch_up()
    text = log.state.schemas.get(schema_id)
    if text is None:
        raise Refused(404, 40403, f"Schema {schema_id} not found")
    return text


def _reading(log: RegistryLog) -> APIRouter:
    router = APIRouter()
    state: RegistryState = log.state

    @router.get("/")
    def root() -> dict[str, Any]:
        return {}

    @router.get("/subjects")
    def subjects() -> list[str]:
        return sorted(name for name, subject in state.subjects.items() if subject.live())

    @router.get("/subjects/{subject}/versions")
    def versions(subject: SubjectPath) -> list[int]:
        return [v.version for v in state.live(subject)]

    @router.get("/subjects/{subject}/versions/{version}")
    def version(subject: SubjectPath, version: str) -> dict[str, Any]:
        return _version(state.version(subject, version))

    @router.get("/subjects/{subject}/versions/{version}/schema")
    def version_schema(subject: SubjectPath, version: str) -> JSONResponse:
        return JSONResponse(_parsed(state.version(subject, version).text))

    @router.get("/schemas/types")
    def types() -> list[str]:
        return ["AVRO"]

    @router.get("/schemas/ids/{schema_id}")
    def by_id(schema_id: int) -> dict[str, Any]:
        return {"schema": _known_id(log, schema_id)}

    @router.get("/schemas/ids/{schema_id}/schema")
    def by_id_schema(schema_id: int) -> JSONResponse:
        return JSONResponse(_parsed(_known_id(log, schema_id)))

    @router.get("/schemas/ids/{schema_id}/subjects")
    def by_id_subjects(schema_id: int) -> list[str]:
        return [v.subject for v in _versions_of(state, schema_id)]

    @router.get("/schemas/ids/{schema_id}/versions")
    def by_id_versions(schema_id: int) -> list[dict[str, Any]]:
        return [{"subject": v.subject, "version": v.version} for v in _versions_of(state, schema_id)]

    @router.get("/config")
    def config() -> dict[str, str]:
        return {"compatibilityLevel": state.level}

    @router.get("/config/{subject}")
    def subject_config(
        subject: SubjectPath, default: Annotated[bool, Query(alias="defaultToGlobal")] = False
    ) -> dict[str, str]:
        if subject not in state.levels and not default:
            raise Refused(404, 40408, f"Subject '{subject}' does not have subject-level compatibility configured")
        return {"compatibilityLevel": state.level_of(subject)}

    @router.get("/mode")
    def mode() -> dict[str, str]:
        return {"mode": "READWRITE"}

    return router


def _writing(log: RegistryLog) -> APIRouter:
    router = APIRouter()
    state = log.state

    @router.post("/subjects/{subject}/versions")
    def register(subject: SubjectPath, body: SchemaBody) -> dict[str, Any]:
        text = body.text()
        outcome = state.find(subject, text) or log.append({"kind": "register", "subject": subject, "schema": text})
        if not isinstance(outcome, Version):
            raise outcome or Refused(500, 50001, "Error in the backend data store")
        return {"id": outcome.id}

    @router.post("/subjects/{subject}")
    def lookup(subject: SubjectPath, body: SchemaBody) -> dict[str, Any]:
        state.live(subject)
        found = state.find(subject, body.text())
        if found is None:
            raise Refused(404, 40403, "Schema not found")
        return _version(found)

    @router.post("/compatibility/subjects/{subject}/versions/{version}")
    def compatible_with(subject: SubjectPath, version: str, body: SchemaBody, verbose: bool = False) -> dict[str, Any]:
        return _verdict(state.check(subject, body.text(), state.version(subject, version)), verbose)

    @router.post("/compatibility/subjects/{subject}/versions")
    def compatible(subject: SubjectPath, body: SchemaBody, verbose: bool = False) -> dict[str, Any]:
        return _verdict(state.check(subject, body.text()), verbose)

    @router.put("/config")
    def set_config(body: dict[str, Any]) -> dict[str, str]:
        level = valid_level(body.get("compatibility"))
        log.append({"kind": "config", "level": level})
        return {"compatibility": level}

    @router.put("/config/{subject}")
    def set_subject_config(subject: SubjectPath, body: dict[str, Any]) -> dict[str, str]:
        level = valid_level(body.get("compatibility"))
        log.append({"kind": "config", "subject": subject, "level": level})
        return {"compatibility": level}

    @router.delete("/config/{subject}")
    def drop_subject_config(subject: SubjectPath) -> dict[str, str]:
        held = state.level_of(subject)
        log.append({"kind": "config", "subject": subject})
        return {"compatibilityLevel": held}

    @router.delete("/subjects/{subject}")
    def delete_subject(subject: SubjectPath) -> list[int]:
        gone = [v.version for v in state.live(subject)]
        log.append({"kind": "delete", "subject": subject})
        return gone

    @router.delete("/subjects/{subject}/versions/{version}")
    def delete_version(subject: SubjectPath, version: str) -> int:
        gone = state.version(subject, version).version
        log.append({"kind": "delete", "subject": subject, "version": gone})
        return gone

    return router


def _parsed(text: str) -> Any:  # noqa: ANN401  (a schema is any JSON)
    return orjson.loads(text)


def _versions_of(state: RegistryState, schema_id: int) -> list[Version]:
    return [v for subject in state.subjects.values() for v in subject.live() if v.id == schema_id]


def _verdict(problems: list[str], verbose: bool) -> dict[str, Any]:
    return {"is_compatible": not problems} | ({"messages": problems} if verbose else {})
