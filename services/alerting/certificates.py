"""The certificate that a receiver shows, looked at as a delivery would reach it: also one that has ended already."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from cryptography import x509

from services.alerting.ends import Seen
from services.delivery.network import Network, check_destination
from services.delivery.profile import Tls
from services.delivery.tls import context_of

CONNECT_S = 5.0


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
