"""What clients send: a schema in JSON, read with a limit and refused with the API's own error codes."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, Field, ValidationError

from services.registry.state import RefusedError, canonical_text, check_subject

MAX_BODY = 1024 * 1024

_T = TypeVar("_T")


class SchemaBody(BaseModel):
    """A schema as clients send it. What this registry doesn't keep is refused, never dropped in silence."""

    schema_: str = Field(alias="schema")
    schema_type: str | None = Field(None, alias="schemaType")
    references: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    rule_set: dict[str, Any] | None = Field(None, alias="ruleSet")
    id: int | None = None
    version: int | None = None

    def text(self) -> str:
        """Return the canonical text; raises RefusedError for what this registry doesn't keep."""
        if self.schema_type not in {None, "AVRO"}:
            raise RefusedError(422, 42201, f"Invalid schema: this registry keeps AVRO, not {self.schema_type}")
        if self.references:
            raise RefusedError(422, 42201, "Invalid schema: references are not supported; put the named types inline")
        if self.metadata or self.rule_set:
            raise RefusedError(422, 42210, "Invalid schema: metadata and rule sets are not supported")
        return canonical_text(self.schema_)

    def check_unnumbered(self) -> None:
        """Raise RefusedError when the client wants to choose the id or the version itself."""
        if (self.id or 0) > 0 or (self.version or 0) > 0:
            raise RefusedError(422, 42205, "Ids and versions are given by the registry: mode IMPORT is not supported")


async def json_body(request: Request) -> dict[str, Any]:
    """Read a JSON object, whatever content type it says to have; stops as soon as the body is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RefusedError(413, 413, f"The request is larger than {MAX_BODY} bytes")
    try:
        found = orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, 400, f"The request is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError(422, 422, "The request is no JSON object")
    return found


JsonBody = Annotated[dict[str, Any], Depends(json_body)]


def schema_body(body: JsonBody) -> SchemaBody:
    """Return the schema in a request; raises RefusedError that names every bad field."""
    try:
        return SchemaBody.model_validate(body)
    except ValidationError as error:
        bad = "; ".join(f"{'/'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise RefusedError(422, 42201, f"Invalid schema: {bad}") from error


def subject_path(subject: Annotated[str, Path()]) -> str:
    """Return the subject that the path names; raises RefusedError for one that can't be."""
    return check_subject(subject)


SchemaIn = Annotated[SchemaBody, Depends(schema_body)]
SubjectIn = Annotated[str, Depends(subject_path)]
Deleted = Annotated[bool, Query(description="those deleted softly, too")]
DeletedOnly = Annotated[bool, Query(alias="deletedOnly", description="only those deleted softly")]
LatestOnly = Annotated[bool, Query(alias="latestOnly", description="each subject's latest version only")]
DefaultToGlobal = Annotated[bool, Query(alias="defaultToGlobal", description="else what holds for all subjects")]
Prefix = Annotated[str, Query(alias="subjectPrefix")]
Offset = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=-1, description="-1: no limit")]


def page(found: list[_T], offset: int, limit: int) -> list[_T]:
    """Return one page of a list."""
    return found[offset:] if limit < 0 else found[offset : offset + limit]
