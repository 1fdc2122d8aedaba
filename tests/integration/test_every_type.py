"""Every story's sample goes in by several ways and comes out decoded by a stock Confluent consumer."""

from __future__ import annotations

import csv
import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from producers.client import Publisher
from producers.files.importing import Importer
from schemas.codec import to_jsonable
from schemas.contracts import load_contracts
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.processes import Processes

pytestmark = pytest.mark.servers

KEY = "hyk_test"
SOURCE = "urn:test:all"
TYPES = load_contracts().types


@pytest.fixture
def gateway(configuration: Configuration, installation: Settings, processes: Processes) -> str:
    """A gateway, and a department that may publish everything; its address."""
    configuration.department("all", SOURCE, KEY, sorted(TYPES))
    return processes.start("gateway", installation).url


def by_gateway(url: str) -> None:
    """Publish every sample in one batch."""
    batch = [
        {"specversion": "1.0", "id": f"gateway-{n}", "type": t, "data": TYPES[t].sample} for n, t in enumerate(TYPES)
    ]
    headers = {"Content-Type": "application/cloudevents-batch+json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{url}/v1/events", json.dumps(batch).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["accepted"] == len(TYPES)


def by_client(settings: Settings) -> None:
    """Publish every sample over Kafka."""
    with Publisher(settings, SOURCE) as publisher:
        for number, (name, contract) in enumerate(TYPES.items()):
            publisher.publish(name, contract.sample, id=f"client-{number}").result(15)


def cell(value: Any) -> str:
    """Return a value as a cell: lists parted by semicolons, nested records as JSON."""
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return ";".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def by_file(settings: Settings, folder: Path) -> None:
    """Import every sample as a row of its own file."""
    with Publisher(settings, "urn:test:file", bulk=True) as publisher:
        for name, contract in TYPES.items():
            row = {name: cell(value) for name, value in contract.sample.items()}
            path = folder / f"{name}.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
                writer.writerow(row)
            tally = Importer(publisher, contract).run(path, folder / "rejects.csv", lambda _: None)
            assert tally.accepted == 1, (folder / "rejects.csv").read_text(encoding="utf-8")


def decoded(settings: Settings, topics: OwnTopics, count: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Read (type, way in, data) with Confluent's own consumer and deserialiser."""
    deserialise = AvroDeserializer(SchemaRegistryClient({"url": settings.registry.url}))
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": f"{topics.prefix}stock",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(sorted({topics.events(contract.domain) for contract in TYPES.values()}))
    messages: list[Any] = []

    def enough() -> bool:
        messages.extend(m for m in consumer.consume(500, 0.5) if m.error() is None)
        return len(messages) >= count

    eventually(enough, 60, f"{count} events")
    consumer.close()
    for message in messages:
        headers = dict(message.headers())
        way = "file" if headers["ce_source"] == b"urn:test:file" else headers["ce_id"].decode().partition("-")[0]
        context = SerializationContext(message.topic(), MessageField.VALUE)
        yield headers["ce_type"].decode(), way, deserialise(message.value(), context)


def same(found: Any, sent: Any) -> bool:
    """Tell whether decoded data holds what was sent; times may be written with another offset."""
    if isinstance(sent, dict):
        return all(same(found.get(name), value) for name, value in sent.items())
    if isinstance(sent, list):
        return len(found) == len(sent) and all(map(same, found, sent))
    if isinstance(sent, str) and "T" in sent and sent.endswith("+08:00"):
        return datetime.fromisoformat(found) == datetime.fromisoformat(sent)
    return str(found) == str(sent)


def test_every_sample_goes_in_by_three_ways_and_is_decoded_by_stock_clients(
    gateway: str, installation: Settings, own: OwnTopics, tmp_path: Path
) -> None:
    """Gateway, Python client and file: the same data comes out, in the type's own schema."""
    by_gateway(gateway)
    by_client(installation)
    by_file(installation, tmp_path)
    ways: dict[str, set[str]] = defaultdict(set)
    for kind, way, data in decoded(installation, own, 3 * len(TYPES)):
        assert same(to_jsonable(data), dict(TYPES[kind].sample)), f"{kind} by {way}: {data}"
        ways[kind].add(way)
    assert ways == {kind: {"gateway", "client", "file"} for kind in TYPES}


def test_the_catalogue_is_read_over_http_without_a_key(gateway: str) -> None:
    """The list, one entry with every field's sensitivity and the schema itself, and 404 for an unknown type."""
    with urllib.request.urlopen(f"{gateway}/v1/catalogue", timeout=20) as answer:
        listed = {entry["type"]: entry for entry in json.load(answer)["types"]}
    assert set(listed) == set(TYPES)
    assert listed["cn.gov.sc.health.medical-ad-certificate.issued"]["deadline_working_days"] == 5
    with urllib.request.urlopen(f"{gateway}/v1/catalogue/cn.gov.sc.insurance.arrears.noticed", timeout=20) as answer:
        entry = json.load(answer)
    assert entry["named_receivers"] == "receivers"
    assert {f["name"]: f["sensitivity"] for f in entry["fields"]}["unit_uscc"] == "sensitive"
    assert entry["schema"]["name"] == "ArrearsNoticed"
    with pytest.raises(urllib.request.HTTPError) as caught:  # type: ignore[attr-defined]
        urllib.request.urlopen(f"{gateway}/v1/catalogue/cn.gov.sc.nothing", timeout=20)
    assert caught.value.code == 404
