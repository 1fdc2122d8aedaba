"""``hongyan trace`` for a number that finds nothing."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from hongyan import app
from tests.webservers import serving_asgi


@pytest.mark.parametrize("number", ["川医广〔2025〕", "[red]x"])
def test_a_number_that_finds_nothing_is_told_to_be_complete(number: str) -> None:
    """Whoever gave the beginning of one would take the certificate for unknown."""
    ledger = FastAPI()

    @ledger.get("/v1/events")
    def none() -> dict[str, list[str]]:
        return {"events": []}

    with serving_asgi(ledger) as url:
        known = {"HONGYAN_PORTAL__URL": url, "HONGYAN_SECURITY__ADMIN_KEY": "k"}
        done = CliRunner().invoke(app, ["trace", number], env=known)
    assert (done.exit_code, f"台账中没有 {number}。编号须写完整" in done.stdout) == (1, True)
