"""Our client: asks once for each schema, tells its errors apart, and survives what servers do to connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from schemas.contracts import load_contracts
from schemas.registry_client import RegistryAway, RegistryClient, RegistryError, SchemaRefused, SchemaUnknown
from schemas.topics import Topics
from tests.registries import PatientKafka, RunningRegistry, run_registry

CONTRACT = load_contracts().types["cn.gov.sc.window.case.accepted"]
STRICTER = {**CONTRACT.schema, "fields": [*CONTRACT.schema["fields"], {"name": "must", "type": "string"}]}


@pytest.fixture(scope="module")
def kafka() -> PatientKafka:
    """Return a Kafka in memory."""
    return PatientKafka()


@pytest.fixture(scope="module")
def registry(kafka: PatientKafka) -> Iterator[RunningRegistry]:
    """Run a registry."""
    with run_registry(kafka, Topics()) as found:
        yield found


@pytest.fixture
def client(registry: RunningRegistry) -> Iterator[RegistryClient]:
    """Return a client that knows nothing yet."""
    with closing(RegistryClient(registry.url)) as found:
        yield found


class Stub(ThreadingHTTPServer):
    """A server that gives the same answer to everything, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, status: int, body: str, *, hang_up: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.status, self.body, self.hang_up = status, body, hang_up
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def address(self) -> str:
        """Return host and port."""
        return f"127.0.0.1:{self.server_address[1]}"


class StubHandler(BaseHTTPRequestHandler):
    """Answers for the stub, keeping connections."""

    protocol_version = "HTTP/1.1"
    server: Stub

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked.append((self.path, dict(self.headers)))
        body = self.server.body.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        # Closed without telling, as a restarted server or an impatient proxy does.
        self.close_connection = self.server.hang_up

    def do_POST(self) -> None:
        """Answer, having read what came."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def answering(status: int, body: object, *, hang_up: bool = False) -> Iterator[Stub]:
    """Run a stub."""
    text = body if isinstance(body, str) else json.dumps(body)
    with Stub(status, text, hang_up=hang_up) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


def test_registers_looks_up_and_reads_back(client: RegistryClient) -> None:
    """One id, by registering, by looking up and back to the schema."""
    with pytest.raises(SchemaUnknown):
        client.lookup("new", CONTRACT.schema)
    number = client.id_of("new", CONTRACT.schema)
    assert client.lookup("new", CONTRACT.schema) == client.register("new", CONTRACT.schema) == number
    assert client.schema_by_id(number) == CONTRACT.schema


def test_what_it_registered_it_need_not_ask_for() -> None:
    """Whoever writes in a schema reads in it too, whether the registry is there then or not."""
    with answering(200, {"id": 7}) as server, closing(RegistryClient(f"http://{server.address}")) as client:
        assert client.id_of("a", CONTRACT.schema) == 7
        assert client.schema_by_id(7) == CONTRACT.schema
        assert len(server.asked) == 1


def test_an_incompatible_schema_is_refused_with_the_reason(client: RegistryClient) -> None:
    """No retry helps, and the message names the field; the check beforehand says the same."""
    client.register("strict", CONTRACT.schema)
    assert client.incompatibilities("strict", CONTRACT.schema) == []
    assert "must has no default" in client.incompatibilities("strict", STRICTER)[0]
    with pytest.raises(SchemaRefused, match="must has no default") as caught:
        client.id_of("strict", STRICTER)
    assert caught.value.retriable is False


def test_what_is_no_schema_is_refused(client: RegistryClient) -> None:
    """Invalid Avro is refused for good."""
    with pytest.raises(SchemaRefused, match="42201"):
        client.register("s", {"type": "record"})


def test_a_subject_may_have_any_printable_name(client: RegistryClient) -> None:
    """Names are quoted in the address."""
    assert client.id_of("名称 ?#&%", {"type": "string"}) == client.lookup("名称 ?#&%", {"type": "string"})


def test_a_bare_primitive_is_given_as_an_object(client: RegistryClient, registry: RunningRegistry) -> None:
    """Callers read properties of schemas, which a bare name has none of; a union is no event's schema."""
    assert client.schema_by_id(registry.register("bare", "double").body["id"]) == {"type": "double"}
    with pytest.raises(SchemaUnknown, match="union"):
        client.schema_by_id(registry.register("either", ["null", "int"]).body["id"])


def test_what_was_seen_once_needs_no_registry() -> None:
    """Ids are for ever: a registry that went away costs nothing for schemas already seen."""
    with answering(200, {"id": 7, "schema": json.dumps(CONTRACT.schema)}) as server:
        client = RegistryClient(f"http://{server.address}")
        for _ in range(3):
            assert client.schema_by_id(7) == CONTRACT.schema
            assert client.id_of("s", CONTRACT.schema) == 7
        assert len(server.asked) == 2
    assert client.schema_by_id(7) == CONTRACT.schema
    assert client.id_of("s", CONTRACT.schema) == 7
    client.close()
    with pytest.raises(RegistryAway):
        client.schema_by_id(8)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"error_code": 40403, "message": "Schema 1 not found"}, SchemaUnknown),
        (404, {"error_code": 404, "message": "HTTP 404 Not Found"}, RegistryAway),
        (404, "<html>not here</html>", RegistryAway),
        (401, {"error_code": 401, "message": "Unauthorized"}, RegistryAway),
        (429, {"error_code": 429, "message": "slow down"}, RegistryAway),
        (500, {"error_code": 50001, "message": "store"}, RegistryAway),
        (502, "<html>bad gateway</html>", RegistryAway),
        (503, {"error_code": 50003, "message": "log"}, RegistryAway),
        (302, "{}", RegistryAway),
        (200, "[]", RegistryAway),
        (200, "{}", RegistryAway),
        (200, {"schema": "no json"}, RegistryAway),
        (200, {"schema": "{}", "schemaType": "PROTOBUF"}, SchemaUnknown),
        (200, {"schema": "{}", "references": [{"name": "x", "subject": "x", "version": 1}]}, SchemaUnknown),
    ],
)
def test_only_the_registrys_own_word_makes_a_schema_unknown(
    status: int, body: object, error: type[RegistryError]
) -> None:
    """A wrong address, a proxy's page or a missing credential must not cost an event its delivery."""
    with answering(status, body) as server, closing(RegistryClient(f"http://{server.address}")) as client:
        with pytest.raises(error) as caught:
            client.schema_by_id(1)
        assert type(caught.value) is error
        assert caught.value.retriable is (error is RegistryAway)


def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    """A registry that restarts between two calls is not noticed."""
    with answering(200, {"schema": '"int"'}, hang_up=True) as server:
        with closing(RegistryClient(f"http://{server.address}")) as client:
            assert [client.schema_by_id(n) for n in (1, 2, 3)] == [{"type": "int"}] * 3
        assert [path for path, _ in server.asked] == [f"/schemas/ids/{n}" for n in (1, 2, 3)]


def test_a_path_and_a_credential_in_the_address_are_used_and_never_told() -> None:
    """An external registry may stand under a path and ask for a password, which no message repeats."""
    with answering(503, {"message": "no"}) as server:
        client = RegistryClient(f"http://me:s%40crettext@{server.address}/registry/")
        with closing(client), pytest.raises(RegistryAway) as caught:
            client.schema_by_id(1)
        path, headers = server.asked[0]
    assert path == "/registry/schemas/ids/1"
    assert headers["Authorization"] == "Basic bWU6c0BjcmV0dGV4dA=="
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8081", "ftp://host", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    """A setting that can't work is told at the start."""
    with pytest.raises(ValueError, match="address"):
        RegistryClient(url)


def test_threads_share_a_client(client: RegistryClient, registry: RunningRegistry) -> None:
    """Sixteen threads that ask at once get the right schema each."""
    numbers = [registry.register(f"t{n}", {"type": "fixed", "name": "F", "size": n}).body["id"] for n in range(16)]
    got: dict[int, int] = {}
    threads = [
        threading.Thread(target=lambda n=n: got.__setitem__(n, client.schema_by_id(n)["size"]))  # type: ignore[misc]
        for n in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [got[n] for n in numbers] == list(range(16))


def test_without_kafka_a_new_schema_must_wait(
    kafka: PatientKafka, client: RegistryClient, registry: RunningRegistry
) -> None:
    """The registry's 503 is a retriable error for the caller."""
    kafka.away = True
    try:
        with pytest.raises(RegistryAway, match="50003"):
            client.register("later", {"type": "fixed", "name": "Later", "size": 1})
    finally:
        kafka.away = False
