"""The owners of sockets on Linux: from a socket's ends to its inode, and from that to the processes that have it open.

Of several that have (a child inherits open files), the owner is the one which opened the socket, as far as that can be
told: the outermost ancestor that has it open under the same number. Everything here can vanish while it is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from rpc.candidates import Candidates
from rpc.client_socket import Answers, ClientSocket, Owner, is_local
from rpc.namespaces import find_socket, other_namespaces
from rpc.sock_diag import SockDiag, SocketEntry

PROC = "/proc"
DELETED = " (deleted)"
"""What the name of an executable ends with that has been replaced since it was started."""

PAGE_BYTES = 4096

type Links = dict[str, ClientSocket]
"""Sockets by what a link to them in `/proc/PID/fd` reads."""


class LinuxOwners:
    """Finds owners; for one thread. Raises OSError where the kernel has no sock_diag."""

    is_prompt = True

    def __init__(self) -> None:
        self._diag = SockDiag()
        self._candidates = Candidates(_pids())

    def find_fast(self, clients: Collection[ClientSocket]) -> Answers:
        """Return what can be found at once; what is missing may still be found thoroughly."""
        answers: Answers = {}
        links: Links = {}
        for client in clients:
            # A UDP socket need not be connected, so that nothing less than a search can tell that there is only one.
            entry = self._search(client) if client.transport == "udp" else self._diag.look_up(client)
            if entry is not None:
                _take(entry, client, links, answers)
        self._look_into(self._candidates.recent(), links, answers)
        if links:
            self._look_into(self._candidates.new(_pids()), links, answers)
        return answers

    def find_thoroughly(self, clients: Collection[ClientSocket]) -> Answers:
        """Return what can be found at all; what is missing cannot be known."""
        answers: Answers = {}
        links: Links = {}
        users = set()
        away = []
        for client in clients:
            if (entry := self._diag.look_up(client) or self._search(client)) is not None:
                users.add(entry.uid)
                _take(entry, client, links, answers)
            elif not is_local(client.ip, client.zone):
                away.append(client)
        pids = _pids() if links or away else []
        if links:
            self._look_into(_likely_first(pids, users), links, answers)
        if away:
            self._look_into_namespaces(pids, away, answers)
        return answers

    def close(self) -> None:
        """Close what is open."""
        self._diag.close()

    def _search(self, client: ClientSocket) -> SocketEntry | None:
        return self._diag.search(client) if is_local(client.ip, client.zone) else None

    def _look_into_namespaces(self, pids: Iterable[int], clients: Iterable[ClientSocket], answers: Answers) -> None:
        """Look for clients with addresses of other machines among the processes of this machine's containers."""
        for namespace in other_namespaces(PROC, pids).values():
            links: Links = {}
            for client in clients:
                if (entry := find_socket(PROC, namespace, client)) is not None:
                    _take(entry, client, links, answers)
            self._look_into(reversed(namespace), links, answers)

    def _look_into(self, pids: Iterable[int], links: Links, answers: Answers) -> None:
        """Go through processes until every link is found; what is found moves to the answers."""
        for pid in pids:
            if not links:
                return
            for client, owner in _owned(pid, links):
                answers[client] = owner
                self._candidates.found(owner.pid)


def _take(entry: SocketEntry, client: ClientSocket, links: Links, answers: Answers) -> None:
    """Note what the table says: a link to look for, or that no process has the socket any more."""
    if entry.inode:
        links[f"socket:[{entry.inode}]"] = client
    else:
        answers[client] = None


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208 - three times as fast


def _likely_first(pids: Iterable[int], users: Collection[int]) -> list[int]:
    """Return the processes of these users first, and newer ones before older ones."""
    return sorted(pids, key=lambda pid: (_user(pid) in users, pid), reverse=True)


def _user(pid: int) -> int:
    try:
        return Path(PROC, str(pid)).stat().st_uid
    except OSError:
        return -1


def _owned(pid: int, links: Links) -> Iterator[tuple[ClientSocket, Owner]]:
    """Take out of the links what a process has open, with the owners."""
    try:
        # What an open folder holds stays that process's, even when its id is used anew.
        folder = os.open(f"{PROC}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        # It has gone, or it is not for us to look into.
        return
    try:
        for number in reversed(_numbers(folder)):
            link = _read_link(number, folder)
            if link is not None and (client := links.pop(link, None)) is not None:
                yield client, _opener(pid, number, link) or Owner(pid, _name("..", folder))
    finally:
        os.close(folder)


def _opener(pid: int, number: str, link: str) -> Owner | None:
    """Return the outermost ancestor that has the same socket open under the same number; null if none has."""
    opener = None
    while (pid := _parent(pid)) and _read_link(f"{PROC}/{pid}/fd/{number}") == link:
        opener = pid
    return Owner(opener, _name(f"{PROC}/{opener}")) if opener else None


def _numbers(folder: int) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read_link(name: str, folder: int | None = None) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _read(path: str, folder: int | None = None) -> bytes:
    """Return what one of the system's small files says; empty if it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY, dir_fd=folder)
    except OSError:
        return b""
    try:
        return os.read(file, PAGE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(file)


def _parent(pid: int) -> int:
    """Return the id of a process's parent; 0 if there is none or it cannot be known."""
    # The name comes before it, in brackets, and may have brackets and spaces in it.
    fields = _read(f"{PROC}/{pid}/stat").rpartition(b")")[2].split(None, 2)
    return int(fields[1]) if len(fields) > 1 else 0


def _name(process: str, folder: int | None = None) -> str | None:
    """Return the name of a process's executable; the process is a path, which may start at an open folder."""
    if (path := _read_link(f"{process}/exe", folder)) is not None:
        return path.removesuffix(DELETED).rpartition("/")[2] or None
    return _read(f"{process}/comm", folder).removesuffix(b"\n").decode(errors="replace") or None
