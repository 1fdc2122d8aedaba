"""A schema registry in memory, and the one page of it that a consumer in another process asks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from schemas.contracts import Schema
from schemas.registry_client import RegistryAway, SchemaUnknown


class MemorySchemas:
    """Gives ids in the order in which schemas are first asked for. ``away`` makes every call raise."""

    def __init__(self) -> None:
        self.schemas: list[Schema] = []
        self.away = False

    def schema_by_id(self, schema_id: int) -> Schema:
        """Return a schema."""
        if self.away:
            raise RegistryAway("the fake registry is away")
        if not 1 <= schema_id <= len(self.schemas):
            raise SchemaUnknown(f"no schema {schema_id}")
        return self.schemas[schema_id - 1]

    def id_of(self, subject: str, schema: Schema) -> int:
        """Return its id; registers it the first time."""
        if schema not in self.schemas:
            self.schemas.append(schema)
        return self.schemas.index(schema) + 1

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve ``/schemas/ids/N`` and give the base address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(schemas: MemorySchemas) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                schema = schemas.schema_by_id(int(self.path.rsplit("/", 1)[-1]))
                status, body = 200, {"schema": json.dumps(schema)}
            except SchemaUnknown as error:
                status, body = 404, {"error_code": "40403", "message": str(error)}
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it)
            """Say nothing."""

    return Handler
