"""The searches for clients' processes that are under way.

The thread that reads the pipe begins them, since a client may not live until the loop has time; the loop takes in what
was found, together with its other changes, since waking up for each answer would cost both processes more than finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import wait
from functools import partial
from typing import NamedTuple, TypeGuard

from rpc import records
from rpc.client_socket import ClientSocket, client_socket
from rpc.processes import Answer, ProcessFinder

END_SECONDS = 1.0
"""How long the end may wait for what is still being looked for."""


class Search(NamedTuple):
    """A search for the process of one connection."""

    connection: records.ClientConnection
    answer: Answer


class Searches:
    """Searches by their connections' keys. `tell` takes answers for the proxy, and may be called in any thread."""

    def __init__(self, tell: Callable[[records.ProcessFound], None], finder: ProcessFinder | None = None) -> None:
        self._tell = tell
        self._finder = finder or ProcessFinder()
        self._begun: set[int] = set()
        self._under_way: dict[int, Search] = {}

    def begin(self, captured: Iterable[records.Captured]) -> list[Search]:
        """Begin to look for the processes of the connections that are new in these records. For the reading thread."""
        new = [record for record in captured if self._is_new(record)]
        answers = self._finder.submit([_client(connection) for connection in new])
        for connection, answer in zip(new, answers, strict=True):
            if connection.is_urgent:
                answer.add_done_callback(partial(self._tell_at_once, connection.key))
        return [Search(connection, answer) for connection, answer in zip(new, answers, strict=True)]

    def add(self, searches: Iterable[Search]) -> None:
        """Take over searches whose connections have been taken in. This and what follows is for the loop."""
        for search in searches:
            self._under_way[search.connection.key] = search

    def are_under_way(self) -> bool:
        """Return whether there is anything to come."""
        return bool(self._under_way)

    def take_answers(self) -> list[records.ProcessFound]:
        """Return what has been found since the last call; the proxy is told of it."""
        done = [search for search in self._under_way.values() if search.answer.done()]
        answers = []
        for connection, answer in done:
            del self._under_way[connection.key]
            answers.append(_found(connection.key, answer))
            if not connection.is_urgent:
                self._tell(answers[-1])
        return answers

    def end(self) -> None:
        """Wait for what is still being looked for, which the entry of a client that has just gone depends on."""
        wait([search.answer for search in self._under_way.values()], timeout=END_SECONDS)
        self._finder.close()

    def _is_new(self, record: records.Captured) -> TypeGuard[records.ClientConnection]:
        """Return whether a record asks for a process; take in what it says."""
        if isinstance(record, records.ClientDisconnected):
            self._begun.discard(record.key)
        if not isinstance(record, records.ClientConnection) or not record.find_process or record.key in self._begun:
            return False
        self._begun.add(record.key)
        return True

    def _tell_at_once(self, key: int, answer: Answer) -> None:
        self._tell(_found(key, answer))


def _client(connection: records.ClientConnection) -> ClientSocket | None:
    """Return a connection's socket; null if the proxy does not know its ends."""
    if connection.peer is None or connection.local is None:
        return None
    return client_socket(connection.peer, connection.local, connection.transport)


def _found(key: int, answer: Answer) -> records.ProcessFound:
    owner = answer.result()
    return records.ProcessFound(key, records.Process(owner.pid, owner.name) if owner else None)
