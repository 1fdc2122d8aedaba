"""Ports of an installation."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.runtime.embedded.ports import RANGE, Ports, answers, free_port, is_free
from services.runtime.errors import ConflictError


def listener() -> socket.socket:
    """Listen on a port that was free."""
    found = socket.create_server(("127.0.0.1", free_port()))
    found.listen()
    return found


def test_a_part_keeps_its_port_over_a_restart(tmp_path: Path) -> None:
    """A second book over the same file gives the same ports."""
    first = [Ports(tmp_path / "ports").take(part) for part in ("kafka", "gateway")]
    assert [Ports(tmp_path / "ports").take(part) for part in ("kafka", "gateway")] == first


def test_parts_never_share_a_port(tmp_path: Path) -> None:
    """Ports handed out before anybody listens on them differ all the same."""
    ports = Ports(tmp_path / "ports")
    assert len({ports.take(f"part-{n}") for n in range(200)}) == 200


def test_a_remembered_port_that_somebody_took_is_given_up(tmp_path: Path) -> None:
    """A part moves when another program listens where it was."""
    with listener() as taken:
        (tmp_path / "ports").write_text(f'{{"kafka": {taken.getsockname()[1]}}}')
        assert Ports(tmp_path / "ports").take("kafka") != taken.getsockname()[1]


def test_a_wanted_port_that_is_taken_is_refused_by_number(tmp_path: Path) -> None:
    """What was asked for is never silently replaced."""
    with listener() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=f"gateway.*{port}"):
            Ports(tmp_path / "ports").take("gateway", port)


def test_a_wanted_port_is_not_also_another_part_s(tmp_path: Path) -> None:
    """A part that remembers the port which another is given by hand gets a new one."""
    remembered = Ports(tmp_path / "ports").take("controller")
    ports = Ports(tmp_path / "ports")
    assert ports.take("kafka", remembered) == remembered
    assert ports.take("controller") != remembered


def test_free_ports_lie_below_those_of_outgoing_connections() -> None:
    """A client that keeps calling a server which is away is never given the server's port as its own."""
    lowest = Path("/proc/sys/net/ipv4/ip_local_port_range")
    assert RANGE.stop <= (int(lowest.read_text().split()[0]) if lowest.exists() else 32768)
    assert free_port() in RANGE


def test_a_port_answers_while_somebody_listens() -> None:
    """Free and answering are told apart."""
    with listener() as taken:
        port = taken.getsockname()[1]
        assert answers(port)
        assert not is_free(port)
    assert is_free(port)
    assert not answers(port)
