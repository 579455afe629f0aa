"""A client's socket, as the proxy knows it, and who owns it."""

from __future__ import annotations

import socket
from typing import Literal, NamedTuple

from rpc.records import Address

type Ip = bytes
"""An address as it travels: 4 bytes or 16, but 4 for an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2)."""
type Transport = Literal["tcp", "udp"]

MAPPED = bytes(10) + b"\xff\xff"


class ClientSocket(NamedTuple):
    """The client's end of a connection: its own address and port, then those of the end that the proxy has.

    `remote_ip` is unspecified (zeros) where the proxy does not know which of its addresses was used, which
    is so for UDP. `zone` is the interface of a link-local address, by name or number, else empty.
    """

    transport: Transport
    ip: Ip
    port: int
    remote_ip: Ip
    remote_port: int
    zone: str


class Owner(NamedTuple):
    """A process: its id and its executable's name, null where the system does not tell."""

    pid: int
    name: str | None


type Answers = dict[ClientSocket, Owner | None]
"""Owners that were found; null where it is known that there is none."""


def plain_ip(text: str) -> Ip:
    """Return an address in the one form in which addresses are compared. Raises OSError if it is none."""
    if ":" not in text:
        return socket.inet_pton(socket.AF_INET, text)
    return unmapped(socket.inet_pton(socket.AF_INET6, text.partition("%")[0]))


def unmapped(ip: Ip) -> Ip:
    """Return the IPv4 address that is mapped to an IPv6 one, or else the address itself."""
    return ip.removeprefix(MAPPED) if len(ip) == 16 else ip


def family_of(ip: Ip) -> socket.AddressFamily:
    """Return the family that an address belongs to."""
    return socket.AF_INET if len(ip) == 4 else socket.AF_INET6


def client_socket(peer: Address, local: Address, transport: Transport) -> ClientSocket | None:
    """Return the socket at `peer`, whose other end is `local`; null if these are not addresses of the internet."""
    try:
        ip, remote_ip = plain_ip(peer[0]), plain_ip(local[0])
    except OSError:
        return None
    return ClientSocket(transport, ip, peer[1], remote_ip, local[1], peer[0].partition("%")[2])


def is_local(ip: Ip, zone: str) -> bool:
    """Return whether an address is one of this machine's: only such a one can be bound."""
    family = family_of(ip)
    host = socket.inet_ntop(family, ip) + (f"%{zone}" if zone else "")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
