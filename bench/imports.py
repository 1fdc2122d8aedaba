"""``hongyan import`` of a short and a long file: rows a second, and the peak memory of the process at both lengths.

``HONGYAN_BENCH_ROWS`` is how many rows the long file has. The bare loop reads the same file with the standard library
and sends bytes of an event's size, checking, converting and encoding nothing.
"""

from __future__ import annotations

import csv
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
from kafka import KafkaProducer

from bench.results import Result
from bench.stack import peak_until_end, wait_for
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.embedded.ports import answers, free_port
from services.runtime.kafka.client import connect
from services.runtime.settings import KafkaSettings, Settings, as_environment, with_environment

TYPE = "cn.gov.sc.window.case.accepted"
FEW = 10_000
MANY = int(os.environ.get("HONGYAN_BENCH_ROWS", "200000"))
RATE_BAR, GROWTH_BAR = 3000, 1.15


def measure(address: str) -> list[Result]:
    """Import both files into topics of their own; there is no router, whose work would be measured too."""
    topics, kafka = Topics(f"bench{secrets.token_hex(3)}."), connect(KafkaSettings(bootstrap_servers=address))
    admin = kafka.admin()
    admin.ensure_topics(topics.base_specs(load_contracts().domains()))
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        settings = Settings(data_dir=Path(folder))
        settings.kafka = KafkaSettings(bootstrap_servers=address, topic_prefix=topics.prefix)
        port = free_port()
        settings.registry.url = f"http://127.0.0.1:{port}"
        environment = with_environment(as_environment(settings))
        command = [sys.executable, "-m", "hongyan", "serve", "registry", "--port", str(port)]
        registry = subprocess.Popen(command, env=environment)
        try:
            wait_for(lambda: answers(port), 60)
            _, short_mb = _import(_file(Path(folder) / "few.csv", FEW), FEW, environment)
            long = _file(Path(folder) / "many.csv", MANY)
            rate, long_mb = _import(long, MANY, environment)
            bare = _bare(address, topics.events("window"), long)
        finally:
            registry.terminate()
            registry.wait(20)
            admin.delete_topics([name for name in admin.list_topics() if name.startswith(topics.prefix)])
            admin.close()
    ratio, grown = round(rate / bare, 2), round(long_mb / short_mb, 2)
    memory = f"at most {GROWTH_BAR}: {long_mb:.0f} MB at {MANY} rows, {short_mb:.0f} MB at {FEW}"
    return [
        Result(
            "import_rate",
            round(rate),
            round(bare),
            ratio,
            "rows/s",
            f"at least {RATE_BAR} over {MANY} rows of a CSV file, each checked",
            rate >= RATE_BAR,
        ),
        Result("import_memory_growth", grown, 1.0, grown, "peak at the many / at the few", memory, grown <= GROWTH_BAR),
    ]


def _file(path: Path, rows: int) -> Path:
    """Write synthetic cases as a department's export has them."""
    sample = load_contracts().types[TYPE].sample
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(sample))
        writer.writeheader()
        for number in range(rows):
            writer.writerow({**sample, "project_no": f"SYN-BENCH-{number}"})
    return path


def _import(path: Path, rows: int, environment: Mapping[str, str]) -> tuple[float, float]:
    """Return rows a second, as the command says them, and its peak memory in MB."""
    command = [sys.executable, "-m", "hongyan", "import", str(path), "--type", TYPE, "--json"]
    with (path.with_suffix(".out")).open("w+b") as out:
        process = subprocess.Popen(command, env=environment, stdout=out)
        peak = peak_until_end(process)
        out.seek(0)
        told = orjson.loads(out.read())
    if process.returncode != 0 or told["accepted"] != rows:
        raise RuntimeError(f"the import did not take all rows: {told}")
    return rows / float(told["seconds"]), peak


def _bare(address: str, topic: str, path: Path) -> float:
    """Return rows a second of the client library alone, tuned alike."""
    producer = KafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, linger_ms=20, batch_size=131_072
    )
    began = time.monotonic()
    count = 0
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            producer.send(topic, key=row[0].encode(), value=",".join(row).encode())
            count += 1
    producer.flush()
    rate = count / (time.monotonic() - began)
    producer.close()
    return rate
