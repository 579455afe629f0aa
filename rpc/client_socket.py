"""A client's socket, as the proxy knows it, and who owns it."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

from rpc.records import Address

type Ip = IPv4Address | IPv6Address
type Transport = Literal["tcp", "udp"]


class ClientSocket(NamedTuple):
    """The client's end of a connection: its own address and port, then those of the end that the proxy has.

    Never IPv4-mapped. `remote_ip` is unspecified where the proxy does not know which of its addresses was used, which
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
    """Return an address in the one form in which addresses are compared. Raises ValueError if it is none."""
    ip = ip_address(text.partition("%")[0])
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def client_socket(peer: Address, local: Address, transport: Transport) -> ClientSocket | None:
    """Return the socket at `peer`, whose other end is `local`; null if these are not addresses of the internet."""
    try:
        ip, remote_ip = plain_ip(peer[0]), plain_ip(local[0])
    except ValueError:
        return None
    return ClientSocket(transport, ip, peer[1], remote_ip, local[1], peer[0].partition("%")[2])


def is_local(ip: Ip, zone: str) -> bool:
    """Return whether an address is one of this machine's: only such a one can be bound."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    host = f"{ip}%{zone}" if zone else str(ip)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
