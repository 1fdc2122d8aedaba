"""The sample receiver as a command: it says what keeps it from receiving, and what it refuses."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request

import pytest
from typer.testing import CliRunner

from consumers.receiver.kit import Receiver
from consumers.receiver.process import serve
from hongyan import app
from tests.configuration import SECRET


@pytest.mark.parametrize("secret", ["whsec_xx", "whsk_" + "A" * 44, "hyk_abc", "whsec_"])
def test_what_can_be_no_key_is_refused_at_the_start(secret: str) -> None:
    """With it every delivery would be refused, and nobody would know why."""
    ended = CliRunner().invoke(app, ["receiver", "run", "--port", "0", "--secret", secret])
    assert (ended.exit_code, "密钥应为" in ended.stderr) == (1, True)


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    """And not by a stack."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = CliRunner().invoke(app, ["receiver", "run", "--port", port, "--secret", SECRET])
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (1, 1)
    assert f"127.0.0.1:{port}" in ended.stderr


def test_a_refused_request_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever runs it sees that something came, and what was wrong with it."""
    server = serve(Receiver([SECRET], lambda _: None), "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{server.server_port}/", b"{}"), timeout=10)
    refused.value.close()
    server.shutdown()
    server.server_close()
    assert "401" in capsys.readouterr().err
