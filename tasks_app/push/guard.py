"""Where notifications may go (A2A 1.0, section 13.2): public addresses, and what ``A2A_PUSH_ALLOWED`` names besides.

A webhook's address is the client's word, and what connects to it stands inside our network. So every address that a
name resolves to is judged, and the connection is made to one that was: who resolves the name again could be told
another one (DNS rebinding). Pure but for :func:`resolve`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from django.conf import settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: The addresses of a name, as text. Raises OSError where there are none.
Resolve = Callable[[str, int], Awaitable[list[str]]]

_GLOBAL_UNICAST = IPv6Network("2000::/3")
#: Well-known prefix of NAT64 (RFC 6052): the last 32 bits are the IPv4 address that is reached.
_NAT64 = IPv6Network("64:ff9b::/96")
#: Not for us, though ``ipaddress`` of some Python versions calls them global.
_REFUSED: tuple[Network, ...] = (
    IPv4Network("192.0.0.0/24"),  # IETF protocol assignments (RFC 6890); 192.0.0.192 is Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 7526)
    IPv4Network("168.63.129.16/32"),  # Azure's host, on a public address
    IPv6Network("2001::/23"),  # IETF protocol assignments, Teredo among them
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
_RULE = re.compile(r"(?P<host>\[[^\]]+\](/\d+)?|[^\[\]:]+|[0-9a-fA-F:]+(/\d+)?)(:(?P<port>\d{1,5}))?")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
#: A slow name server holds up nobody but those who ask for its names: as many at once as are delivered to.
_RESOLVERS = ThreadPoolExecutor(128, thread_name_prefix="push-resolve")


class Forbidden(Exception):
    """The url's host resolves to an address that notifications may not be sent to."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An exception: a host's name with all its addresses, or a network; for one port, or all (None)."""

    name: str
    network: Network | None
    port: int | None

    def allows(self, name: str, address: Address, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if self.network is None:
            return name == self.name
        return address.version == self.network.version and address in self.network


def rule(text: str) -> Rule:
    """The rule that an item of ``A2A_PUSH_ALLOWED`` says: ``10.0.0.0/8``, ``hooks.internal:8443``, ``[::1]:9000``.

    Raises ValueError.
    """
    match = _RULE.fullmatch(text.strip())
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65_536):
        raise ValueError(f"'{text}' is neither a host nor a network, with or without a port")
    host = match["host"].replace("[", "").replace("]", "").lower()
    try:
        return Rule("", ipaddress.ip_network(host), port)
    except ValueError:
        # What has only digits and dots, or a slash, was meant to be a network.
        if not _NAME.fullmatch(host) or re.fullmatch(r"[\d.]+", host):
            raise ValueError(f"'{text}' is neither a host nor a network, with or without a port") from None
        return Rule(host, None, port)


def is_public(address: Address) -> bool:
    """Whether it is a unicast address of the internet, also by the IPv4 address that an IPv6 one stands for."""
    if isinstance(address, IPv6Address):
        embedded = _embedded(address)
        if embedded is not None:
            return is_public(embedded)
        if address not in _GLOBAL_UNICAST:
            return False
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    listed = any(address in network for network in _REFUSED if network.version == address.version)
    return address.is_global and not special and not address.is_link_local and not listed


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is reached in the end: mapped (RFC 4291), 6to4 (RFC 3056), NAT64 (RFC 6052)."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


class Guard:
    """Says which addresses a host may be reached at."""

    def __init__(self, rules: Sequence[Rule], resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve

    async def addresses(self, host: str, port: int) -> list[str]:
        """What the host resolves to now: all of it may be connected to.

        Raises :class:`Forbidden` if any may not, OSError if there is none.
        """
        name = host.lower().rstrip(".")
        found = list(dict.fromkeys(await self._resolve(host, port)))
        for text in found:
            address = _address(text)
            if not is_public(address) and not any(rule.allows(name, address, port) for rule in self._rules):
                raise Forbidden(f"{host} is at {text}, which is not a public address")
        if not found:
            raise OSError(f"{host} has no address")
        return found


def _address(text: str) -> Address:
    """Without its scope: ``fe80::1%eth0``."""
    return ipaddress.ip_address(text.partition("%")[0])


async def resolve(host: str, port: int) -> list[str]:
    """By the system's resolver. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(_RESOLVERS, _getaddrinfo, host, port)
    except UnicodeError as error:
        raise OSError(f"{host} is no name that can be resolved: {error}") from None
    return [str(entry[4][0]) for entry in found]


def _getaddrinfo(host: str, port: int) -> list[tuple[object, object, object, object, tuple[object, ...]]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def guard() -> Guard:
    """By the settings."""
    return Guard([rule(text) for text in settings.A2A_PUSH_ALLOWED], resolve)
