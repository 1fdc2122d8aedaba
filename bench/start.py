"""From ``hongyan up`` to the first delivery, once installed."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

from bench.results import Result
from bench.stack import Answering, subscribe, wait_for
from producers.demonstration.installation import Installation
from schemas.contracts import load_contracts
from services.runtime.errors import HongyanError

BAR_S = 15
TYPE = "cn.gov.sc.health.medical-ad-certificate.issued"


def measure(_address: str) -> list[Result]:
    """Start an installation, add who publishes and who receives, publish one event, and wait for it."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        Path(folder).chmod(0o755)
        receiver = Answering()
        began = time.monotonic()
        installation = Installation(Path(folder))
        try:
            body = {"id": "bench", "name": "bench", "source": "urn:bench", "types": [TYPE]}
            key = installation.administer("/v1/departments", body)["key"]
            subscribe(installation, "bench", receiver.url, [TYPE])
            event: dict[str, object] = {"specversion": "1.0", "source": "urn:bench", "type": TYPE}
            event["data"] = dict(load_contracts().types[TYPE].sample)
            # Until gateway and router have heard of both: an event from before an entitlement is nobody's.
            wait_for(lambda: _delivered(installation, key, event, receiver))
            took = time.monotonic() - began
        finally:
            installation.stop()
    return [Result("start", round(took, 1), None, None, "s", f"at most {BAR_S} s to the first delivery", took <= BAR_S)]


def _delivered(installation: Installation, key: str, event: dict[str, object], receiver: Answering) -> bool:
    """Publish one more event, and tell whether any has arrived."""
    try:
        installation.publish(key, {**event, "id": secrets.token_hex(4)})
    except HongyanError:
        return False
    return bool(receiver.ids)
