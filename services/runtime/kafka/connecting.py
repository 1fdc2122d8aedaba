"""Connects kafka-python's clients so that an attempt which comes to nothing leaves nothing behind.

The library leaves the socket of every failed attempt to the garbage collector, and the thread of every client that
could not be made for good: through a night's outage a process would run out of files and of threads.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka.errors import KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.wrapping import wrapped

DIRECT = "direct://"
"""The library's setting ``proxy_url`` for connections without a proxy that close what they opened."""
NO_ANSWER = (
    "Kafka 在 {} 没有应答：请核对设置 HONGYAN_KAFKA__BOOTSTRAP_SERVERS，或启动它（hongyan up）；什么也没有丢失 "
    "(Kafka gives no answer there: check the setting, or start it; nothing is lost): {}"
)


class DirectSocket(KafkaNetSocket):  # type: ignore[misc]  # (the library is untyped)
    """A connection without a proxy; the library finds it by its scheme."""

    SCHEMES = ("direct",)

    async def sock_connect(self, net: object, sock: socket.socket, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Connect, or close the socket."""
        try:
            return await super().sock_connect(net, sock, *args, **options)
        except BaseException:
            sock.close()
            raise


@contextmanager
def connecting() -> Iterator[Callable[..., KafkaNetClient]]:
    """Give what makes the library's inner client, and close that where nobody answers; raises our errors."""
    made: list[KafkaNetClient] = []
    asked: list[str] = []

    def inner(**config: Any) -> KafkaNetClient:  # noqa: ANN401  (the library's own settings)
        asked[:] = config["bootstrap_servers"]
        made.append(KafkaNetClient(**config))
        return made[-1]

    try:
        with wrapped("connect"):
            yield inner
    except BaseException as error:
        for client in made:
            client.close()
        if isinstance(error.__cause__, KafkaTimeoutError):
            # The library's words alone tell nobody at a terminal what to do; in a log they are what is looked for.
            raise KafkaUnavailableError(NO_ANSWER.format(",".join(asked), error)) from error.__cause__
        raise
