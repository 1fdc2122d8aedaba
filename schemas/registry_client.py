"""A client of a schema registry (Confluent REST API). Ids are for ever, so each schema is asked for once."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import quote, urlsplit

from schemas.contracts import Schema

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_GONE_CONNECTION = (http.client.HTTPException, OSError)


class RegistryError(Exception):
    """The registry did not do what was asked."""

    retriable = False


class RegistryAway(RegistryError):  # noqa: N818
    """The registry does not answer; the same call may work later."""

    retriable = True


class SchemaUnknown(RegistryError):  # noqa: N818
    """The registry has no such schema."""


class SchemaRefused(RegistryError):  # noqa: N818
    """The registry refused the schema: it is no Avro, or not compatible with what the subject holds."""


class RegistryClient:
    """Speaks to one registry; may be shared between threads."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        self._url = urlsplit(url)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def schema_by_id(self, schema_id: int) -> Schema:
        """Return the schema with this id; raises SchemaUnknown or RegistryAway."""
        held = self._schemas.get(schema_id)
        if held is None:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
            held = self._schemas[schema_id] = json.loads(answer["schema"])
        return held

    def id_of(self, subject: str, schema: Schema) -> int:
        """Return a schema's id under a subject, registering it if need be; raises SchemaRefused or RegistryAway."""
        text = json.dumps(schema, ensure_ascii=False)
        held = self._ids.get((subject, text))
        if held is None:
            answer = self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", {"schema": text})
            held = self._ids[subject, text] = int(answer["id"])
        return held

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        payload = json.dumps(body).encode() if body is not None else None
        with self._lock:
            status, text = self._exchange(method, self._url.path.rstrip("/") + path, payload)
        answer: dict[str, Any] = json.loads(text) if text else {}
        if status < 300:
            return answer
        message = f"{answer.get('error_code', status)} {answer.get('message', text)}"
        if status == 404:
            raise SchemaUnknown(message)
        if status in {409, 422}:
            raise SchemaRefused(message)
        raise RegistryAway(message) if status >= 500 else RegistryError(message)

    def _exchange(self, method: str, path: str, payload: bytes | None) -> tuple[int, str]:
        # A kept connection may have been closed by the other side meanwhile: then once more, on a new one.
        for attempt in (1, 2):
            fresh = self._connection is None
            try:
                return self._send(method, path, payload)
            except _GONE_CONNECTION as error:
                self._connection = None
                if fresh or attempt == 2:
                    raise RegistryAway(f"{self._url.geturl()}: {type(error).__name__} {error}") from error
        raise RegistryAway(self._url.geturl())

    def _send(self, method: str, path: str, payload: bytes | None) -> tuple[int, str]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        self._connection.request(method, path, payload, {"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE})
        response = self._connection.getresponse()
        return response.status, response.read().decode()
