"""A portal process and ways to call it, and people who apply and approve."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.runtime.settings import Settings, as_environment, with_environment
from tests.processes import Processes

LAW = {
    "basis": "《医疗广告管理办法》第十二条",
    "scene": "医疗广告监管",
    "scope": "本级监管对象",
    "method": "推送",
    "valid_until": "2099-01-01",
}
ADMIN_KEY = "test-administration-key"


@dataclass
class Portal:
    """Calls the administration API of a portal process; ``keys`` holds what each person was given."""

    url: str
    settings: Settings
    keys: dict[str, str] = field(default_factory=dict)

    def ask(
        self, path: str, body: object | None = None, *, key: str = ADMIN_KEY, method: str | None = None
    ) -> tuple[int, Any]:
        """Return status and answer."""
        payload = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, payload, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def done(self, path: str, body: object | None = None, **more: Any) -> Any:
        """Return the answer to what must work."""
        status, answer = self.ask(path, body, **more)
        assert status in {200, 201}, answer
        return answer

    def agency(self, agency: str, division: str = "510000", sink: str = "http://127.0.0.1:9/never") -> None:
        """Add an agency, with one person who applies for it: ``<agency>-zhang``."""
        self.done("/v1/agencies", {"id": agency, "name": agency, "division": division, "sink": sink})
        self.person({"id": f"{agency}-zhang", "name": "张三", "agency": agency})

    def department(self, department: str, types: Sequence[str]) -> None:
        """Add a department, with one person who approves for it: ``<department>-li``."""
        body = {"id": department, "name": department, "source": f"urn:{department}", "types": list(types)}
        self.done("/v1/departments", body)
        person = {"id": f"{department}-li", "name": "李四", "department": department, "approves": list(types)}
        self.person(person)

    def person(self, body: dict[str, Any]) -> None:
        """Add somebody."""
        self.keys[body["id"]] = self.done("/v1/people", body)["key"]

    def grant(self, agency: str, department: str, types: Sequence[str], **more: Any) -> str:
        """Have a grant applied for and approved; return its id."""
        people = {"by": f"{agency}-zhang", "approve_by": f"{department}-li"}
        answer = self.done("/v1/subscriptions", {"agency": agency, "types": list(types), **LAW, **people, **more})
        return str(answer["id"])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a ``hongyan`` command of this installation."""
        return subprocess.run(
            [sys.executable, "-m", "hongyan", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=with_environment(as_environment(self.settings)),
        )


def start_portal(settings: Settings, processes: Processes) -> Portal:
    """Start a portal process and tell the installation's settings of it."""
    running = processes.start("portal", settings)
    settings.portal.url = running.url
    return Portal(running.url, settings)
