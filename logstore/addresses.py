"""Where a server listens and what it is called by others: ``host:port`` and Kafka's listeners, as text and as values.

Kafka writes a listener as ``NAME://host:port``; the host may be missing (all interfaces), an IPv6 one stands in
brackets. A listener's name is its protocol, or what listener.security.protocol.map says of it.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/\s,]*)):([0-9]{1,5})")
_LISTENER = re.compile(r"([A-Za-z0-9_.-]+)://(.*)")
PORT_MAX = 65_535
# Every interface of a machine, of either kind; not an address that a client can connect to.
_WILDCARDS = frozenset({"", "0.0.0.0", "::"})


class Address(NamedTuple):
    """``host`` without brackets, "" for all interfaces; ``port`` 0 for one that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        return self.host in _WILDCARDS

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect to it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Listener(NamedTuple):
    name: str
    address: Address


def parse_address(text: str) -> Address:
    """``host:port``, ``[::1]:9092``, ``:9092``. Raises ValueError, whose text says what would have been right."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError("an address is HOST:PORT, as in 127.0.0.1:9092 or [::1]:9092")
    if int(match[3]) > PORT_MAX:
        raise ValueError(f"a port is a number from 0 to {PORT_MAX}")
    return Address(match[1] or match[2] or "", int(match[3]))


def parse_listener(text: str) -> Listener:
    """``NAME://host:port``. Raises ValueError."""
    match = _LISTENER.fullmatch(text.strip())
    if match is None:
        raise ValueError("a listener is NAME://HOST:PORT, as in PLAINTEXT://127.0.0.1:9092")
    return Listener(match[1].upper(), parse_address(match[2]))


def parse_protocol_map(pairs: Iterable[str]) -> dict[str, str]:
    """Listeners' protocols by their names, of ``NAME:PROTOCOL`` pairs. Raises ValueError."""
    protocols: dict[str, str] = {}
    for pair in pairs:
        name, separator, protocol = pair.partition(":")
        if not separator or not name.strip() or not protocol.strip():
            raise ValueError(f"{pair!r} is not NAME:PROTOCOL, as in PLAINTEXT:PLAINTEXT")
        protocols[name.strip().upper()] = protocol.strip().upper()
    return protocols
