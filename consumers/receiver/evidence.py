"""The result of a check as evidence: a JSON document with its own digest, kept in a file and for the agency."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from consumers.receiver.checking import Checked
from services.portal.client import CommandError, call
from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Registered:
    """An agency that a result is kept for, and the address that its events are pushed to."""

    agency: str
    url: str


def registered(agency: str) -> Registered:
    """Look an agency up over the administration API; raises HongyanError, also where there is none."""
    sinks = {row["id"]: row["sink"] for row in _ask("GET", "/v1/agencies")}
    if agency not in sinks:
        raise HongyanError(f"没有接收单位 {agency} (no such agency)")
    return Registered(agency, sinks[agency])


def evidence_of(
    url: str, results: Sequence[Checked], limit_s: float, kept_for: Registered | None = None
) -> dict[str, Any]:
    """Return the document; ``digest`` is the SHA-256 of the rest as JSON with sorted keys.

    One that is kept for an agency names the registered address too, and warns where another was checked.
    """
    document: dict[str, Any] = {
        "kind": "hongyan-receiver-check",
        "tool": f"hongyan {version('hongyan')}",
        "url": url,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "limit_s": limit_s,
        "passed": all(result.passed for result in results),
        "checks": [result.to_json() for result in results],
    }
    if kept_for is not None:
        named = {"agency": kept_for.agency, "registered_url": kept_for.url}
        document |= named | {"warnings": _warnings(url, kept_for)}
    return document | {"digest": digest_of(document)}


def digest_of(document: dict[str, Any]) -> str:
    """Return the digest of a document, its own ``digest`` left out."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def keep(agency: str, document: dict[str, Any]) -> None:
    """Keep the evidence for an agency, over the administration API; raises HongyanError."""
    _ask("POST", f"/v1/agencies/{quote(agency)}/evidence", document)


def _warnings(url: str, kept_for: Registered) -> list[str]:
    if _place(url) == _place(kept_for.url):
        return []
    return [
        f"检查的是 {url}，而 {kept_for.agency} 登记的推送地址是 {kept_for.url}：登记的地址没有检查"
        " (the registered address is another one, and was not checked)"
    ]


def _place(url: str) -> tuple[str, str | None, int | None, str, str]:
    """Return what of an address tells where a delivery goes, however it is written."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme), parts.path or "/", parts.query


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  (any JSON)
    try:
        return call(settings_for_cli(), method, path, body)
    except CommandError as error:
        raise HongyanError(str(error)) from error
