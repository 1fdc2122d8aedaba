"""The demonstration's installation: the product's own commands, each a process, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from services.runtime.direct import open_direct
from services.runtime.embedded.ports import answers, free_port
from services.runtime.errors import HongyanError
from services.runtime.measuring import samples
from services.runtime.settings import with_environment
from services.runtime.supervisor import die_with_parent

NETWORKS = {"HONGYAN_DELIVERY__ALLOWED_NETWORKS": '["127.0.0.0/8"]'}
STRUCTURED = "application/cloudevents+json"
OPERATOR = "ops"
WAIT_S = 20.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class ReceiverProcess:
    """A sample receiver in a process of its own, and the file that it notes deliveries in."""

    agency: str
    process: subprocess.Popen[bytes]
    log: Path

    def deliveries(self) -> list[dict[str, Any]]:
        """Return what it has noted so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


class Installation:
    """Starts ``hongyan up`` and speaks to it as anybody would."""

    def __init__(self, data: Path) -> None:
        """Start and wait until all answers; raises HongyanError. Whatever interrupts it, nothing is left running."""
        self.data = data
        self._environment = with_environment(NETWORKS | {"HONGYAN_DATA_DIR": str(data)})
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            up = self._start(["up", "--json", "--data", str(data)], self._environment, subprocess.PIPE)
            self.stack = _told(up)
            self._admin_key = json.loads(Path(self.stack["keys"]).read_text())["admin_key"]
        except BaseException:
            self.stop()
            raise

    def _start(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command of the product in a session of its own, which ends with this process at the latest."""
        process = subprocess.Popen(
            [sys.executable, "-m", "hongyan", *arguments],
            stdout=stdout,
            env=environment,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  (two system calls, no lock)
        )
        self._processes.append(process)
        return process

    def administer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post to the administration API."""
        return self._post(self.stack["addresses"]["portal"] + path, self._admin_key, body, "application/json")

    def subscribe(self, body: Mapping[str, Any], department: str) -> dict[str, Any]:
        """Have a grant applied for by somebody of its agency and approved by somebody of the owning department."""
        applicant, approver = f"apply-{body['agency']}"[:40], f"approve-{department}"[:40]
        owned = next(d["types"] for d in self._ask("/v1/departments") if d["id"] == department)
        self._known(
            {"id": applicant, "name": f"{body['agency']} 申请人", "agency": body["agency"]},
            {"id": approver, "name": f"{department} 批准人", "department": department, "approves": owned},
        )
        law = {"method": "推送", "valid_until": (datetime.now(UTC) + timedelta(days=365)).isoformat()}
        return self.administer("/v1/subscriptions", {**law, **body, "by": applicant, "approve_by": approver})

    def operator(self) -> tuple[str, str]:
        """Return the account of somebody who operates the portal, and a password that works once."""
        self._known({"id": OPERATOR, "name": "演示的系统管理员", "roles": ["system"]})
        password: str = self.administer(f"/v1/people/{OPERATOR}/password", {})["password"]
        return OPERATOR, password

    def _known(self, *people: Mapping[str, Any]) -> None:
        """Add those who are not there yet."""
        there = {person["id"] for person in self._ask("/v1/people")}
        for person in people:
            if person["id"] not in there:
                self.administer("/v1/people", person)

    def _ask(self, path: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._admin_key}"}
        request = urllib.request.Request(self.stack["addresses"]["portal"] + path, headers=headers)  # noqa: S310
        with open_direct(request, WAIT_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found

    def publish(self, key: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Publish one event through the gateway, in CloudEvents structured mode; raises HongyanError."""
        return self._post(self._events, key, event, STRUCTURED)

    def preview(self, key: str, event: Mapping[str, Any]) -> list[str]:
        """Return the agencies that the gateway says would get an event."""
        answer = self._post(f"{self._events}?dry_run=true", key, event, STRUCTURED)
        return [receiver["agency"] for receiver in answer["events"][0]["receivers"]]

    @property
    def _events(self) -> str:
        url: str = self.stack["addresses"]["gateway"]
        return f"{url}/v1/events"

    @staticmethod
    def _post(url: str, key: str, body: Mapping[str, Any], kind: str) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  (an address of our own installation)
            url, json.dumps(body).encode(), {"Authorization": f"Bearer {key}", "Content-Type": kind}
        )
        try:
            with open_direct(request, WAIT_S) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError as error:
            said = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
            raise HongyanError(f"{url}: {error} {said}".strip()) from error

    def metric(self, process: str, name: str, label: str = "") -> dict[str, float]:
        """Return the values of a metric of one process, by one of its labels."""
        with open_direct(f"{self.stack['addresses'][process]}/metrics", WAIT_S) as answer:
            page = answer.read().decode()
        return {labels.get(label, ""): value for labels, value in samples(page, name)}

    def command(self, *arguments: str) -> str:
        """Run a ``hongyan`` command and return what it prints; raises HongyanError with what it says when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "hongyan", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise HongyanError(f"hongyan {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def add_agency(self, agency: str, name: str, division: str) -> ReceiverProcess:
        """Add an agency and start its receiver with the secret that the API gave out."""
        port = free_port()
        body = {"id": agency, "name": name, "division": division, "sink": f"http://127.0.0.1:{port}/hongyan"}
        added = self.administer("/v1/agencies", body)
        log = self.data / "logs" / f"receiver-{agency}.jsonl"
        environment = {**self._environment, "HONGYAN_RECEIVER_SECRET": added["secret"]}
        process = self._start(["receiver", "run", "--port", str(port), "--out", str(log)], environment)
        _wait_for_port(port)
        self.administer(f"/v1/agencies/{agency}/verify", {})
        return ReceiverProcess(agency, process, log)

    @property
    def pid(self) -> int:
        """Return the process id of ``hongyan up``."""
        return self._processes[0].pid

    def wait(self) -> None:
        """Wait until the installation is stopped."""
        self._processes[0].wait()

    def stop(self) -> None:
        """Stop the receivers and the installation; what does not end is killed, and what it runs ends with it."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _told(up: subprocess.Popen[bytes]) -> Mapping[str, Any]:
    """Return what ``hongyan up`` says of itself once it runs; raises HongyanError when it did not start."""
    line = up.stdout.readline() if up.stdout else b""
    if not line:
        raise HongyanError("hongyan up 启动失败，原因见上 (did not start; see above)")
    found: Mapping[str, Any] = json.loads(line)
    return found


def _wait_for_port(port: int) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.05)):
        if answers(port):
            return
        pause.wait(0.05)
    raise HongyanError(f"接收端在 {WAIT_S:.0f} 秒内没有启动 (the receiver did not start)")
