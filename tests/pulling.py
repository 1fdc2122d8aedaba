"""An agency that pulls, over plain HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

CLIENT_S = 30


@dataclass(frozen=True)
class Answered:
    """An answer: status, headers in lower case, and the JSON in it."""

    status: int
    headers: Mapping[str, str]
    json: Any

    @property
    def ids(self) -> list[str]:
        """Return the ids of a batch's events."""
        return [event["id"] for event in self.json]

    @property
    def cursors(self) -> list[int]:
        """Return their cursors."""
        return [int(event["hongyancursor"]) for event in self.json]

    @property
    def after(self) -> int:
        """Return what to ask for next."""
        return int(self.headers["hongyan-cursor"])


@dataclass(frozen=True)
class Puller:
    """Asks the feeds API as one agency."""

    url: str
    agency: str
    key: str

    def get(self, what: str = "events", **parameters: object) -> Answered:
        """Ask for something of the feed; ``from_`` stands for ``from``."""
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        return self._ask("GET", f"/v1/feeds/{self.agency}/{what}?{urlencode(named)}".rstrip("/?"), None, {})

    def written(self, query: str) -> Answered:
        """Ask for events by a query as a person writes it, with nothing escaped."""
        return self._ask("GET", f"/v1/feeds/{self.agency}/events?{query}", None, {})

    def ack(self, said: Mapping[str, Any] | bytes, headers: Mapping[str, str] | None = None) -> Answered:
        """Give receipts."""
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        return self._ask("POST", f"/v1/feeds/{self.agency}/acks", body, headers or {})

    def all(self, after: int, limit: int = 100) -> list[str]:
        """Return the ids of everything beyond a cursor."""
        found: list[str] = []
        while (batch := self.get(after=after, limit=limit)).json:
            found += batch.ids
            after = batch.after
        return found

    @contextmanager
    def stream(self, headers: Mapping[str, str] | None = None, **parameters: object) -> Iterator[Iterator[str]]:
        """Open the stream and give its lines."""
        connection = self._connect()
        path = f"/v1/feeds/{self.agency}/stream?{urlencode(parameters)}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}", **(headers or {})})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        try:
            yield (line.decode().rstrip("\n") for line in iter(answer.readline, b""))
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        place = urlsplit(self.url)
        return http.client.HTTPConnection(place.hostname or "", place.port, timeout=CLIENT_S)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answered:
        connection = self._connect()
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.key}", **headers})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, found, json.loads(answer.read() or b"null"))
        finally:
            connection.close()
