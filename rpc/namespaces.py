"""Linux's other network namespaces: the sockets of containers, where the system lets us look into their processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rpc.client_socket import ClientSocket, Ip, unmapped
from rpc.sock_diag import SocketEntry

WORD_BYTES = 4

type Namespaces = Mapping[str, Sequence[int]]
"""The processes of each network namespace."""


def other_namespaces(proc: str, pids: Iterable[int]) -> Namespaces:
    """Return the namespaces that are not ours and that we may look into."""
    ours = _namespace(proc, "self")
    others: dict[str, list[int]] = {}
    for pid in pids:
        if (name := _namespace(proc, str(pid))) is not None and name != ours:
            others.setdefault(name, []).append(pid)
    return others


def _namespace(proc: str, process: str) -> str | None:
    """Return what a process's namespace is called; null if the process has gone or is not for us to look into."""
    try:
        return os.readlink(f"{proc}/{process}/ns/net")  # noqa: PTH115 - there are many
    except OSError:
        return None


def find_socket(proc: str, namespace: Sequence[int], client: ClientSocket) -> SocketEntry | None:
    """Return the client's socket if it is in the namespace of these processes, and the only one it could be."""
    found = [entry for entry in _entries(proc, namespace, client) if entry.is_end(client) and entry.inode]
    return found[0] if len(found) == 1 else None


def _entries(proc: str, namespace: Sequence[int], client: ClientSocket) -> Iterator[SocketEntry]:
    port = f":{client.port:04X}"
    for table in (client.transport, f"{client.transport}6"):
        for line in _lines(proc, namespace, table):
            # proc_net_tcp(5): number, local, remote, state, queues, timer, retransmits, user, timeouts, inode.
            fields = line.split()
            if fields[1].endswith(port):
                yield SocketEntry(*_end(fields[1]), *_end(fields[2]), int(fields[7]), int(fields[9]))


def _lines(proc: str, namespace: Sequence[int], table: str) -> list[str]:
    """Return a table of a namespace, as the first of its processes that still lives sees it."""
    for pid in namespace:
        with suppress(OSError):
            return Path(proc, str(pid), "net", table).read_text().splitlines()[1:]
    return []


def _end(text: str) -> tuple[Ip, int]:
    """Return the address and port: words of the machine's byte order, in hexadecimal."""
    digits, _, port = text.partition(":")
    words = (digits[at : at + 2 * WORD_BYTES] for at in range(0, len(digits), 2 * WORD_BYTES))
    ip = b"".join(int(word, 16).to_bytes(WORD_BYTES, sys.byteorder) for word in words)
    return unmapped(ip), int(port, 16)
