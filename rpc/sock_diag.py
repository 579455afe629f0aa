"""Linux's table of sockets, asked over netlink (sock_diag(7)): one question and answer, no text to parse.

A socket is told by its inode, which is also what `/proc/PID/fd` shows, and by the user who made it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from rpc.client_socket import ClientSocket, Ip, family_of, unmapped

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x001
NLM_F_DUMP = 0x300
NO_COOKIE = 0xFFFFFFFF

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
ANY_STATE = 0xFFFFFFFF
WITH_OWNER = ANY_STATE & ~(1 << 3 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 12)
"""TCP states (net/tcp_states.h) but SYN_RECV, TIME_WAIT, CLOSE, LISTEN and NEW_SYN_RECV: a connected client's."""

BUFFER_BYTES = 64 * 1024
"""More than the kernel puts into one datagram (32 KiB)."""

HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port id."""
REQUEST = struct.Struct("=BBBxI")
"""inet_diag_req_v2 up to its id: family, protocol, extensions, states."""
PORTS = struct.Struct("!HH")
"""inet_diag_sockid begins with the source's and the destination's port, in network order..."""
ID_END = struct.Struct("=III")
"""...then come both addresses of 16 bytes, and the interface and a cookie of two words."""
STATE = struct.Struct("=BBBB")
"""inet_diag_msg up to its id: family, state, timer, retransmits."""
OWNER = struct.Struct("=12xII")
"""...and after it: expiry, both queues, the user and the inode."""
ADDRESS_BYTES = 16
ID_BYTES = PORTS.size + 2 * ADDRESS_BYTES + ID_END.size


class SocketEntry(NamedTuple):
    """A socket in the table. `inode` is 0 once no process has it open any more."""

    ip: Ip
    port: int
    remote_ip: Ip
    remote_port: int
    uid: int
    inode: int

    def is_end(self, client: ClientSocket) -> bool:
        """Return whether this is the client's socket, or for UDP one that can have sent what the proxy received."""
        if self.port != client.port:
            return False
        is_connected = self.remote_port != 0
        if client.transport == "udp" and not is_connected:
            return self.ip == client.ip or not any(self.ip)
        if self.ip != client.ip or self.remote_port != client.remote_port:
            return False
        return self.remote_ip == client.remote_ip or not any(client.remote_ip)


class SockDiag:
    """A netlink socket; for one thread. Raises OSError where the kernel has no sock_diag."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        self._netlink.connect((0, 0))
        self._sequence = 0
        for transport in ("tcp", "udp"):
            nobody = ClientSocket(transport, bytes(4), 0, bytes(4), 0, "")
            list(self._dump(socket.AF_INET, nobody, states=0))

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()

    def look_up(self, client: ClientSocket) -> SocketEntry | None:
        """Return the TCP socket with exactly these ends, from the kernel's own hash table; null if there is none."""
        try:
            for entry in self._ask(family_of(client.ip), client, NLM_F_REQUEST, WITH_OWNER):
                # The kernel falls back to a listener on the port.
                return entry if entry.is_end(client) else None
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        return None

    def search(self, client: ClientSocket) -> SocketEntry | None:
        """Go through the table for the client's socket; null if there is none, or it could be any of several.

        It costs more than a look-up, and finds what that cannot: UDP sockets that are not connected, and sockets that
        are bound to an interface.
        """
        # A socket of IPv6 can be connected to an address of IPv4.
        families = {family_of(client.ip), socket.AF_INET6}
        states = WITH_OWNER if client.transport == "tcp" else ANY_STATE
        entries = [
            entry for family in families for entry in self._dump(family, client, states=states) if entry.is_end(client)
        ]
        for matching in ([e for e in entries if e.remote_port], [e for e in entries if e.ip == client.ip], entries):
            if matching:
                return matching[0] if len(matching) == 1 else None
        return None

    def _dump(self, family: int, client: ClientSocket, *, states: int) -> Iterator[SocketEntry]:
        return self._ask(family, client, NLM_F_REQUEST | NLM_F_DUMP, states)

    def _ask(self, family: int, client: ClientSocket, flags: int, states: int) -> Iterator[SocketEntry]:
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        is_dump = flags & NLM_F_DUMP
        # A dump compares ports alone, and a socket that is not connected has no remote one.
        remote_port = client.remote_port if client.transport == "tcp" else 0
        body = (
            REQUEST.pack(family, PROTOCOLS[client.transport], 0, states)
            + PORTS.pack(client.port, remote_port)
            + client.ip.ljust(ADDRESS_BYTES, b"\0")
            + client.remote_ip.ljust(ADDRESS_BYTES, b"\0")
            + ID_END.pack(0 if is_dump else _interface(client.zone), NO_COOKIE, NO_COOKIE)
        )
        header = HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, self._sequence, 0)
        self._netlink.send(header + body)
        return self._answers(is_dump=bool(is_dump))

    def _answers(self, *, is_dump: bool) -> Iterator[SocketEntry]:
        while True:
            data = memoryview(self._netlink.recv(BUFFER_BYTES))
            while data:
                length, kind, _, sequence, _ = HEADER.unpack_from(data)
                message, data = data[HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    _check(message)
                    return
                yield _entry(message)
            if not is_dump:
                return


def _check(message: memoryview) -> None:
    """Raise what the kernel reports."""
    if len(message) >= 4 and (code := -int(struct.unpack_from("=i", message)[0])) > 0:
        raise OSError(code, os.strerror(code))


def _entry(message: memoryview) -> SocketEntry:
    family, *_ = STATE.unpack_from(message)
    port, remote_port = PORTS.unpack_from(message, STATE.size)
    start = STATE.size + PORTS.size
    ip, remote_ip = (_ip(family, message[at : at + ADDRESS_BYTES]) for at in (start, start + ADDRESS_BYTES))
    uid, inode = OWNER.unpack_from(message, STATE.size + ID_BYTES)
    return SocketEntry(ip, port, remote_ip, remote_port, uid, inode)


def _ip(family: int, data: memoryview) -> Ip:
    return bytes(data[:4]) if family == socket.AF_INET else unmapped(bytes(data))


def _interface(zone: str) -> int:
    if not zone:
        return 0
    return int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
