"""Requests within the installation: never by way of a proxy that the environment names for the world outside."""

from __future__ import annotations

import http.client
import urllib.request

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_direct(request: str | urllib.request.Request, timeout_s: float) -> http.client.HTTPResponse:
    """Open a URL of ours; raises what :func:`urllib.request.urlopen` raises."""
    answer: http.client.HTTPResponse = _OPENER.open(request, timeout=timeout_s)
    return answer
