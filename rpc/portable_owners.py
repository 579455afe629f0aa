"""The owners of sockets on systems other than Linux, as psutil finds them. Each class is for one thread."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePath
from typing import Any

import psutil

from rpc.candidates import Candidates
from rpc.client_socket import Answers, ClientSocket, Owner, is_local, plain_ip


class TableOwners:
    """Finds owners where the system tells of every socket which process has it, as Windows does."""

    is_prompt = False

    def find_fast(self, clients: Collection[ClientSocket]) -> Answers:
        """Return what can be found."""
        sought = list(_local(clients))
        answers: Answers = {}
        for transport in sorted({client.transport for client in sought}):
            for entry in psutil.net_connections(transport):
                if entry.pid and (client := _match(entry, transport, sought)) is not None:
                    sought.remove(client)
                    answers[client] = Owner(entry.pid, _name(psutil.Process(entry.pid)))
        return answers

    def find_thoroughly(self, _: Collection[ClientSocket]) -> Answers:
        """Return nothing: the first look was all there is."""
        return {}

    def close(self) -> None:
        """Do nothing: nothing is open."""


class ProcessOwners:
    """Finds owners where each process has to be asked for its sockets, as on macOS."""

    is_prompt = False

    def __init__(self) -> None:
        self._candidates = Candidates(psutil.pids())

    def find_fast(self, clients: Collection[ClientSocket]) -> Answers:
        """Return what can be found at once; what is missing may still be found thoroughly."""
        sought = list(_local(clients))
        answers: Answers = {}
        self._ask(self._candidates.recent(), sought, answers)
        if sought:
            self._ask(self._candidates.new(psutil.pids()), sought, answers)
        return answers

    def find_thoroughly(self, clients: Collection[ClientSocket]) -> Answers:
        """Return what can be found at all; what is missing cannot be known."""
        sought = list(_local(clients))
        answers: Answers = {}
        self._ask(sorted(psutil.pids(), reverse=True), sought, answers)
        return answers

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _ask(self, pids: Iterable[int], sought: list[ClientSocket], answers: Answers) -> None:
        """Go through processes until everything sought is found; what is found moves to the answers."""
        for pid in pids:
            if not sought:
                return
            for client, owner in _owned(pid, sought):
                sought.remove(client)
                answers[client] = owner
                self._candidates.found(pid)


def _local(clients: Iterable[ClientSocket]) -> Iterator[ClientSocket]:
    return (client for client in clients if is_local(client.ip, client.zone))


def _owned(pid: int, sought: Collection[ClientSocket]) -> list[tuple[ClientSocket, Owner]]:
    """Return which of the sockets sought a process has, with itself as the owner."""
    try:
        process = psutil.Process(pid)
        held = [
            client
            for transport in sorted({client.transport for client in sought})
            for entry in process.net_connections(transport)
            if (client := _match(entry, transport, sought)) is not None
        ]
        return [(client, Owner(pid, _name(process))) for client in dict.fromkeys(held)]
    except (psutil.Error, OSError):
        # It has gone, or it is not for us to look into.
        return []


def _match(entry: Any, transport: str, sought: Iterable[ClientSocket]) -> ClientSocket | None:
    """Return whose socket one of psutil's entries is."""
    for client in sought:
        if client.transport == transport and entry.laddr and entry.laddr.port == client.port and _is_end(entry, client):
            return client
    return None


def _is_end(entry: Any, client: ClientSocket) -> bool:
    ip = plain_ip(entry.laddr.ip)
    if not entry.raddr:
        # A UDP socket need not be connected; a TCP one is, or it is a listener.
        return client.transport == "udp" and (ip == client.ip or not any(ip))
    if ip != client.ip or entry.raddr.port != client.remote_port:
        return False
    return not any(client.remote_ip) or plain_ip(entry.raddr.ip) == client.remote_ip


def _name(process: psutil.Process) -> str | None:
    """Return the name of a process's executable; null if the system does not tell."""
    try:
        return PurePath(process.exe()).name or process.name()
    except (psutil.Error, OSError):
        pass
    try:
        return process.name() or None
    except (psutil.Error, OSError):
        return None
