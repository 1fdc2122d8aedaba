"""The result of a check as evidence: a JSON document with its own digest, kept in a file and for the agency."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import orjson

from consumers.receiver.checking import Checked
from services.portal.client import CommandError, call
from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli


def evidence_of(url: str, results: Sequence[Checked], limit_s: float) -> dict[str, Any]:
    """Return the document; ``digest`` is the SHA-256 of the rest as JSON with sorted keys."""
    document: dict[str, Any] = {
        "kind": "hongyan-receiver-check",
        "tool": f"hongyan {version('hongyan')}",
        "url": url,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "limit_s": limit_s,
        "passed": all(result.passed for result in results),
        "checks": [result.to_json() for result in results],
    }
    return document | {"digest": digest_of(document)}


def digest_of(document: dict[str, Any]) -> str:
    """Return the digest of a document, its own ``digest`` left out."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def keep(agency: str, document: dict[str, Any]) -> None:
    """Keep the evidence for an agency, over the administration API; raises HongyanError."""
    try:
        call(settings_for_cli(), "POST", f"/v1/agencies/{quote(agency)}/evidence", document)
    except CommandError as error:
        raise HongyanError(str(error)) from error
