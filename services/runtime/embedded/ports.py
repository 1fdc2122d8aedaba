"""Ports on loopback, remembered so that an address outlives a restart."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Collection
from pathlib import Path

from services.runtime.errors import ConflictError

# Below the range that kernels take for outgoing connections: a client that keeps calling a server which is away would
# otherwise be given the server's own port sooner or later, and keep it.
RANGE = range(20_000, 32_000)


class Ports:
    """The ports of one installation's parts, kept in a file. It belongs to one thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        self._given: set[int] = set()

    def take(self, part: str, wanted: int | None = None) -> int:
        """Return a part's port: the wanted one, else the one that it had before while that is free, else a free one.

        Raises ConflictError when somebody listens on the wanted one.
        """
        if wanted is not None and not self._usable(wanted):
            raise ConflictError(f"{part}：端口 {wanted} 已被占用 (port {wanted} is taken)")
        before = self._held.get(part)
        kept = before if before is not None and self._usable(before) else None
        port = wanted or kept or free_port({*self._held.values(), *self._given})
        self._given.add(port)
        if port != before:
            self._held[part] = port
            self._file.write_text(json.dumps(self._held, indent=2))
        return port

    def _usable(self, port: int) -> bool:
        return port not in self._given and is_free(port)


def free_port(but_not: Collection[int] = ()) -> int:
    """Return a port that nobody listens on now; raises ConflictError when there is none."""
    candidates = (port for port in random.sample(RANGE, len(RANGE)) if port not in but_not)
    found = next(filter(is_free, candidates), None)
    if found is None:
        raise ConflictError(f"没有空闲端口 (no free port in {RANGE.start}–{RANGE.stop})")
    return found


def is_free(port: int) -> bool:
    """Tell whether a port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def answers(port: int) -> bool:
    """Tell whether somebody accepts connections on a port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
