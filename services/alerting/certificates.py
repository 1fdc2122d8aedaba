"""The certificate that a receiver shows, looked at as a delivery would reach it: also one that has ended already."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from cryptography import x509

from services.alerting.ends import Seen, shows_certificate
from services.delivery.network import Network, check_destination
from services.delivery.profile import Tls
from services.delivery.tls import context_of
from services.runtime.errors import HongyanError
from services.subscriptions.control import Agency

CONNECT_S = 5.0
TOGETHER = 32
"""So many receivers are looked at at once: those that don't answer take their time together."""


def shown_certificate(agency: str, sink: str, tls: Tls | None, networks: Sequence[Network]) -> Seen:
    """Return the certificate that an https receiver shows; raises InvalidError, OSError or ValueError.

    Nothing is sent. The certificate is not trusted for anything, so that one which has ended can be looked at too; the
    network is checked as for a delivery, and the address that is connected to is one of those that were checked.
    """
    parts = urlsplit(sink)
    port = parts.port or 443
    address = check_destination(sink, _resolve, networks)[0]
    context = context_of(tls)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), CONNECT_S) as connection,
        context.wrap_socket(connection, server_hostname=parts.hostname) as secured,
    ):
        found = secured.getpeercert(binary_form=True)
    if found is None:
        raise ValueError(f"{sink}: 没有出示证书 (no certificate was shown)")
    certificate = x509.load_der_x509_certificate(found)
    return Seen(agency, certificate.not_valid_after_utc, certificate.subject.rfc4514_string() or sink)


def _resolve(host: str, port: int) -> Sequence[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def look_at_all(agencies: Iterable[Agency], show: Callable[[Agency], Seen]) -> list[Seen]:
    """Return the certificates of the receivers that could be reached; whoever is away is another alert's."""
    wanted = deque(filter(shows_certificate, agencies))
    found: list[Seen] = []

    def look() -> None:
        while wanted:
            with suppress(HongyanError, OSError, ValueError, IndexError):
                found.append(show(wanted.popleft()))

    # Of no executor, for whose threads the end of the process would wait.
    threads = [threading.Thread(target=look, daemon=True) for _ in range(min(TOGETHER, len(wanted)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
