"""What pages have shown last, for while the server that it comes from is away: shown again, with its age."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any, TypeVar

from services.portal.web.outages import Outages
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError

MOST = 100
"""So many answers are kept, those that were asked for last."""
Found = TypeVar("Found")


class Kept:
    """Keeps answers of one server by who may see what: a key names both."""

    def __init__(self, server: str, outages: Outages, clock: Clock) -> None:
        self._server = server
        self._outages = outages
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, tuple[Any, datetime]] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], Found]) -> tuple[Found, datetime]:
        """Return what there is, and of when it is.

        While the server is known to be away it is not waited for. Raises UnavailableError where nothing is kept.
        """
        held = self._held.get(key)
        if held is not None and any(one.name == self._server for one in self._outages.away()):
            return held
        try:
            found = (read(), self._clock.now())
        except UnavailableError:
            if held is None:
                raise
            return held
        with self._lock:
            self._held[key] = found
            self._held.move_to_end(key)
            while len(self._held) > MOST:
                self._held.popitem(last=False)
        return found
