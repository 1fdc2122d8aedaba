"""What every answer of the portal says to browsers: nothing from elsewhere, no scripts in pages, in nobody's frame."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STRICT_TRANSPORT = "max-age=31536000"
FOR_EVER = "public, max-age=31536000, immutable"


def site_headers(https: bool) -> dict[str, str]:
    """Return the headers of every answer."""
    return HEADERS | ({"Strict-Transport-Security": STRICT_TRANSPORT} if https else {})


class SafeHeaders:
    """Puts the headers on every answer that does not bring its own; pages are kept by no cache."""

    def __init__(self, app: ASGIApp, https: bool) -> None:
        self._app = app
        self._more = site_headers(https)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._more.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif "\0" in scope["path"] or b"%00" in scope["query_string"]:
            # No text of ours holds this sign, and PostgreSQL takes none that does.
            await PlainTextResponse("400 NUL", 400)(scope, receive, sending)
        else:
            await self._app(scope, receive, sending)
