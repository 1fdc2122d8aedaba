"""Requests within the installation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from services.runtime.direct import open_direct
from tests.webservers import serving_wsgi


def test_a_request_of_ours_takes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's environment names one for the world outside, and leaves loopback out of no_proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)

    def app(_: Any, start: Callable[..., object]) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "5")])
        return [b"here\n"]

    with serving_wsgi(app) as url, open_direct(url, 5.0) as answer:
        assert answer.read() == b"here\n"
