"""Who is asking, while the gateway has only just begun to read the register."""

from __future__ import annotations

import orjson
import pytest

from producers.gateway.credentials import Credentials, RegisterUnreadError, UnauthenticatedError
from services.identity.repository import key_digest
from services.runtime.clock import SystemClock
from services.subscriptions.control import ControlView

KEY = "hyk_test"


def test_nobody_is_known_and_nobody_refused_for_good_until_the_register_is_read() -> None:
    """A valid key must not get a 401 for having come too early, nor a revoked one work for a moment."""
    view, complete = ControlView(), [False]
    credentials = Credentials(view, SystemClock(), None, lambda: complete[0])
    entry = {"id": "hall", "name": "hall", "source": "urn:test", "types": [], "key_hash": key_digest(KEY)}
    view.apply("department/hall", orjson.dumps(entry))
    for given in (f"Bearer {KEY}", "Bearer hyk_other"):
        with pytest.raises(RegisterUnreadError) as caught:
            credentials.department(given)
        assert caught.value.retriable
    complete[0] = True
    assert credentials.department(f"Bearer {KEY}").id == "hall"
    with pytest.raises(UnauthenticatedError):
        credentials.department("Bearer hyk_other")
