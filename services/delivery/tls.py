"""TLS towards one receiver: the system's authorities or its own, and our certificate where it asks for one."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from services.delivery.profile import Tls


def context_of(tls: Tls | None, *, system_too: bool = False) -> ssl.SSLContext:
    """Return the context; raises ValueError that names what is wrong with a certificate or key.

    ``system_too``: the system's authorities are trusted beside the receiver's own.
    """
    try:
        context = ssl.create_default_context(cadata=tls.ca if tls and tls.ca else None)
        if system_too:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls is not None and tls.certificate is not None and tls.private_key is not None:
            _show_certificate(context, tls.certificate, tls.private_key)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ValueError(f"证书或私钥不可用 (certificate or key unusable): {error}") from error
    return context


def _show_certificate(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    """The library reads files only; ours is removed at once and readable by nobody else."""
    with tempfile.TemporaryDirectory(prefix="hongyan-tls-") as folder:
        path = Path(folder) / "client.pem"
        path.touch(mode=0o600)
        path.write_text(f"{certificate.strip()}\n{private_key.strip()}\n", encoding="utf-8")
        context.load_cert_chain(path)
