"""A real Prometheus on loopback, with the shipped configuration and rules, their durations divided by sixty."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from services.runtime.embedded.ports import free_port
from tests.conditions import eventually
from tests.processes import Running

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
CONFIGURATION = DEPLOY / "prometheus" / "prometheus.yml"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=^)(\d+)([smhd])(?=$)")
FASTER = 60


def faster(text: str) -> str:
    """Return an expression, or a duration, whose durations are divided: a minute is a second, and nothing else changes.

    A window holds at least four scrapes, so that a rate can be told.
    """

    def divided(found: re.Match[str]) -> str:
        number, unit = (found[1], found[2]) if found[1] else (found[3], found[4])
        return f"{max(2, int(number) * _SECONDS[unit] // FASTER)}s"

    return _DURATION.sub(divided, text)


def rules() -> list[dict[str, Any]]:
    """Return the shipped alert rules."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@dataclass
class Prometheus:
    """Scrapes running processes twice a second and evaluates the rules as often."""

    folder: Path

    def start(self, running: Mapping[str, Running]) -> None:
        """Write the configuration for these processes, and start."""
        self._port = free_port()
        shipped = yaml.safe_load(RULES.read_text("utf-8"))
        for rule in (rule for group in shipped["groups"] for rule in group["rules"]):
            rule["expr"] = faster(rule["expr"])
            if "for" in rule:
                rule["for"] = faster(rule["for"])
        (self.folder / "alerts.yml").write_text(yaml.safe_dump(shipped, allow_unicode=True), "utf-8")
        configured = yaml.safe_load(CONFIGURATION.read_text("utf-8"))
        configured["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms", "scrape_timeout": "500ms"}
        (job,) = configured["scrape_configs"]
        job["static_configs"] = [
            one | {"targets": [f"127.0.0.1:{running[one['labels']['process']].port}"]}
            for one in job["static_configs"]
            if one["labels"]["process"] in running
        ]
        file = self.folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(configured), "utf-8")
        command = [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--query.lookback-delta=3s",
        ]
        with (self.folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._ready, 20, "Prometheus")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; raises AssertionError with what Prometheus says of a wrong one."""
        address = f"http://127.0.0.1:{self._port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        return found

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Return the labels of what fires now, by the alert's name."""
        found: dict[str, list[dict[str, str]]] = {}
        for one in self.query('ALERTS{alertstate="firing"}'):
            found.setdefault(one["metric"]["alertname"], []).append(one["metric"])
        return found

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(10)

    def _ready(self) -> bool:
        assert self._process.poll() is None, (self.folder / "prometheus.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
