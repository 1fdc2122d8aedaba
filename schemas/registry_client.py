"""A client of a schema registry (Confluent REST API). Ids are for ever, so each schema is asked for once."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

from schemas.contracts import Schema

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND_CODES = {40401, 40402, 40403}
# How a kept connection shows that the other side has closed it meanwhile.
_STALE = (http.client.RemoteDisconnected, http.client.CannotSendRequest, ConnectionError)


class RegistryError(Exception):
    """The registry did not do what was asked."""

    retriable: ClassVar[bool] = False


class RegistryAway(RegistryError):  # noqa: N818
    """The registry does not answer, or not as a registry does; the same call may work later."""

    retriable = True


class SchemaUnknown(RegistryError):  # noqa: N818
    """The registry has no such schema, or none that an event can be written in."""


class SchemaRefused(RegistryError):  # noqa: N818
    """The registry refused the schema: it is no Avro, or not compatible with what the subject holds."""


class RegistryClient:
    """Speaks to one registry, over connections that are kept; may be shared between threads.

    The address may hold a user and password (``https://user:password@host/path``) for a registry that asks for them.
    """

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"a registry's address is http://host:port or https://host:port, not {url!r}")
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._name = f"模式注册中心 (schema registry) {parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._path}"
        self._headers = {"Content-Type": CONTENT_TYPE, "Accept": f"{CONTENT_TYPE}, application/json"}
        if parts.username is not None:
            credential = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(credential).decode()}"
        self._timeout_s = timeout_s
        self._idle: deque[http.client.HTTPConnection] = deque()
        weakref.finalize(self, _close_all, self._idle)
        self._lock = threading.Lock()
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def schema_by_id(self, schema_id: int) -> Schema:
        """Return the schema with this id; raises SchemaUnknown or RegistryAway."""
        held = self._schemas.get(schema_id)
        if held is None:
            held = self._schemas.setdefault(schema_id, self._usable(schema_id))
        return held

    def id_of(self, subject: str, schema: Schema) -> int:
        """Return a schema's id under a subject, registering it if need be; raises SchemaRefused or RegistryAway."""
        key = (subject, _text(schema))
        held = self._ids.get(key)
        if held is None:
            held = self._ids.setdefault(key, self.register(subject, schema))
            self._schemas.setdefault(held, schema)
        return held

    def register(self, subject: str, schema: Schema) -> int:
        """Register a schema and return its id; one that is registered keeps its id. Raises as ``id_of``."""
        return self._number(self._call("POST", f"/subjects/{_quoted(subject)}/versions", _body(schema)))

    def lookup(self, subject: str, schema: Schema) -> int:
        """Return the id of a schema that the subject has; raises SchemaUnknown or RegistryAway."""
        return self._number(self._call("POST", f"/subjects/{_quoted(subject)}", _body(schema)))

    def incompatibilities(self, subject: str, schema: Schema) -> Sequence[str]:
        """Return why a schema may not be registered (empty: it may), registering nothing; raises as ``id_of``."""
        path = f"/compatibility/subjects/{_quoted(subject)}/versions?verbose=true"
        answer = self._call("POST", path, _body(schema))
        if answer.get("is_compatible") is True:
            return []
        return [str(message) for message in answer.get("messages") or ["not compatible"]]

    def versions(self, subject: str) -> list[int]:
        """Return the numbers of a subject's versions, the oldest first; raises SchemaUnknown or RegistryAway."""
        answer = self._answer("GET", f"/subjects/{_quoted(subject)}/versions")
        if not isinstance(answer, list) or not all(isinstance(one, int) for one in answer):
            raise RegistryAway(f"{self._name}: {subject} came without its versions")
        return sorted(answer)

    def version(self, subject: str, number: int) -> tuple[int, Schema]:
        """Return the id and the schema of one version of a subject; raises SchemaUnknown or RegistryAway."""
        found = self._number(self._call("GET", f"/subjects/{_quoted(subject)}/versions/{number}"))
        return found, self.schema_by_id(found)

    def close(self) -> None:
        """Close the connections that are kept; a later call opens a new one."""
        _close_all(self._idle)

    def _usable(self, schema_id: int) -> Schema:
        answer = self._call("GET", f"/schemas/ids/{schema_id}")
        if answer.get("schemaType", "AVRO") != "AVRO" or answer.get("references"):
            raise SchemaUnknown(f"schema {schema_id} is no Avro schema that stands alone")
        try:
            schema = json.loads(answer["schema"])
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryAway(f"{self._name}: schema {schema_id} came without a schema") from error
        if isinstance(schema, str):
            return {"type": schema}
        if not isinstance(schema, dict):
            raise SchemaUnknown(f"schema {schema_id} is a union, and no event is one")
        return schema

    def _number(self, answer: dict[str, Any]) -> int:
        found = answer.get("id")
        if not isinstance(found, int):
            raise RegistryAway(f"{self._name}: the answer has no id")
        return found

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._answer(method, path, body)
        if not isinstance(answer, dict):
            raise RegistryAway(f"{self._name}: {path} came with something else than an object")
        return answer

    def _answer(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  (JSON)
        payload = json.dumps(body).encode() if body is not None else None
        status, content = self._exchange(method, self._path + path, payload)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict | list):
            return answer
        if not isinstance(answer, dict):
            raise RegistryAway(f"{self._name}: HTTP {status}, and no registry's answer")
        raise self._failure(status, answer)

    def _failure(self, status: int, answer: dict[str, Any]) -> RegistryError:
        code, message = answer.get("error_code", status), f"{answer.get('message', f'HTTP {status}')}"
        if status == 404 and code in _NOT_FOUND_CODES:
            return SchemaUnknown(f"{code} {message}")
        if status in {409, 413, 422}:
            return SchemaRefused(f"{code} {message}")
        # A wrong address or credential is mended by an operator: nothing may be given up for it meanwhile.
        return RegistryAway(f"{self._name}: {code} {message}")

    def _exchange(self, method: str, path: str, payload: bytes | None) -> tuple[int, bytes]:
        kept = self._kept()
        if kept is not None:
            try:
                return self._send(kept, method, path, payload)
            except _STALE:
                pass  # closed by the other side while it was kept: once more, on a new one
            except (http.client.HTTPException, OSError) as error:
                raise self._away(error) from error
        try:
            return self._send(self._kind(self._host, self._port, timeout=self._timeout_s), method, path, payload)
        except (http.client.HTTPException, OSError) as error:
            raise self._away(error) from error

    def _kept(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, payload: bytes | None
    ) -> tuple[int, bytes]:
        try:
            connection.request(method, path, payload, self._headers)
            response = connection.getresponse()
            answer = response.status, response.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            raise
        with self._lock:
            self._idle.append(connection)
        return answer

    def _away(self, error: Exception) -> RegistryAway:
        return RegistryAway(f"{self._name}: {type(error).__name__} {error}".rstrip())


def _close_all(connections: deque[http.client.HTTPConnection]) -> None:
    while connections:
        connections.popleft().close()


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _text(schema: Schema) -> str:
    return json.dumps(schema, ensure_ascii=False)


def _body(schema: Schema) -> dict[str, Any]:
    return {"schema": _text(schema)}
