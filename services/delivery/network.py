"""Which addresses a webhook may go to: checked at creation, and at every connection after name resolution."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from services.runtime.errors import FieldProblem, InvalidError

Resolve = Callable[[str, int], Sequence[str]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(networks: Sequence[str]) -> list[Network]:
    """Return the allow-list; raises ValueError for what is no network."""
    return [ipaddress.ip_network(network) for network in networks]


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an IP address lies in the allow-list; an IPv4 address in IPv6 form counts as itself."""
    found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in networks)


def check_destination(url: str, resolve: Resolve, networks: Sequence[Network]) -> Sequence[str]:
    """Return the addresses that a sink resolves to; raises InvalidError at ``/sink`` when any may not be reached.

    All of them must be allowed: a name that resolves to an allowed and a forbidden address is refused.
    """
    host, port = _host_and_port(url)
    try:
        addresses = resolve(host, port)
    except OSError as error:
        raise _invalid(f"主机名 {host} 不能解析 (does not resolve): {error}") from error
    refused = [address for address in addresses if not is_allowed(address, networks)]
    if refused or not addresses:
        raise _invalid(
            f"{host} 的地址 {', '.join(refused)} 不在允许的网络内 "
            "(outside the allowed networks: HONGYAN_DELIVERY__ALLOWED_NETWORKS)"
        )
    return addresses


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _invalid(f"不是网址 (no URL): {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _invalid("应为 http 或 https 网址 (an http or https URL)")
    if parts.username or parts.password:
        raise _invalid("网址中不能有口令 (no credentials in the URL)")
    if parts.hostname.rstrip(".").rpartition(".")[2].isdigit() and not _is_address(parts.hostname):
        raise _invalid(f"{parts.hostname} 像 IPv4 地址但写法不规范，应为四段十进制数，如 10.0.0.1 (no IPv4 address)")
    return parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _invalid(detail: str) -> InvalidError:
    return InvalidError([FieldProblem("/sink", detail)])
