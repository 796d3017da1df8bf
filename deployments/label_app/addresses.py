"""Which addresses are reached from this machine alone, and which are believed about who asks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from infra.errors import GalaxyError

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""How browsers name it, without a port."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusted_proxies(proxies: Iterable[str]) -> list[str]:
    """Whose X-Forwarded-For and -Proto are believed: the proxies, or where none is named one on this machine.

    Raises
    ------
    GalaxyError
        If one is no address; a network is none, since any machine in it could say that it is somebody else.
    """
    named = list(proxies)
    for proxy in named:
        try:
            ipaddress.ip_address(proxy)
        except ValueError:
            raise GalaxyError(f"--proxy {proxy!r} is no address, such as 172.30.43.2 or ::1") from None
    return named or ["127.0.0.1", "::1"]
