"""Which process of this machine owns a client's socket."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address
from typing import Literal, NamedTuple

import psutil

from rpc.records import Address

type Transport = Literal["tcp", "udp"]


class Owner(NamedTuple):
    """A process: its id and its executable's name, null where the system does not tell."""

    pid: int
    name: str | None


class ProcessFinder:
    """Finds the owners of sockets without holding up the loop."""

    async def find(self, peer: Address, local: Address, *, transport: Transport) -> Owner | None:
        """Return the owner of the socket at `peer`, whose other end is `local`; null if it cannot be known."""
        return await asyncio.to_thread(_find, _plain(peer), _plain(local), transport)


def _plain(address: Address) -> Address:
    """Return an address in the one form in which addresses are compared."""
    try:
        ip = ip_address(address[0].partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip), address[1]


def _find(peer: Address, local: Address, transport: Transport) -> Owner | None:
    try:
        connections = psutil.net_connections(transport)
    except psutil.Error:
        return None
    for connection in connections:
        if connection.pid is None or not connection.laddr or _plain(connection.laddr) != peer:
            continue
        if transport == "udp" or (connection.raddr and _plain(connection.raddr) == local):
            return Owner(connection.pid, _name(connection.pid))
    return None


def _name(pid: int) -> str | None:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return None
