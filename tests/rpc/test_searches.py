"""Searches from the records that ask for them to the answers; every socket and owner is real."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest

from rpc import records
from rpc.processes import ProcessFinder
from rpc.records import ClientConnection, ClientDisconnected, ProcessFound
from rpc.searches import Search, Searches

PATIENCE = 60.0
KEY = 7


@dataclass
class Told:
    """Searches, and what the proxy has been told."""

    answers: list[ProcessFound] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.searches = Searches(self.answers.append)


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.searches.end()


@contextmanager
def connection(key: int = KEY, *, is_urgent: bool = False, find_process: bool = True) -> Iterator[ClientConnection]:
    """The record of a connection from this process."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        yield ClientConnection(
            key=key,
            peer=client.getsockname(),
            local=client.getpeername(),
            transport="tcp",
            tls=None,
            http2=None,
            process=None,
            find_process=find_process,
            is_urgent=is_urgent,
        )


def wait(searches: list[Search]) -> None:
    for search in searches:
        search.answer.result(PATIENCE)


def pids(answers: list[ProcessFound]) -> list[tuple[int, int | None]]:
    return [(answer.key, answer.process.pid if answer.process else None) for answer in answers]


def test_what_is_found_is_taken_and_told_together(told: Told) -> None:
    with connection(1) as first, connection(2) as second:
        begun = told.searches.begin([first, second])
        wait(begun)
        told.searches.add(begun)
        assert told.answers == []
        assert told.searches.are_under_way()
        assert pids(told.searches.take_answers()) == [(1, os.getpid()), (2, os.getpid())]
    assert pids(told.answers) == [(1, os.getpid()), (2, os.getpid())]
    assert not told.searches.are_under_way()


def test_an_urgent_answer_is_told_before_the_loop_has_time_and_only_once(told: Told) -> None:
    with connection(is_urgent=True) as urgent:
        begun = told.searches.begin([urgent])
        wait(begun)
        told.searches.end()
        assert pids(told.answers) == [(KEY, os.getpid())]
        told.searches.add(begun)
        assert pids(told.searches.take_answers()) == [(KEY, os.getpid())]
    assert len(told.answers) == 1


def test_a_connection_that_is_told_again_is_not_sought_again_until_its_key_is_free(told: Told) -> None:
    with connection() as again:
        assert len(told.searches.begin([again, again])) == 1
        assert told.searches.begin([again]) == []
        assert len(told.searches.begin([ClientDisconnected(KEY), again])) == 1


def test_only_connections_that_ask_are_sought(told: Told) -> None:
    with connection(find_process=False) as silent:
        assert told.searches.begin([silent, records.EntryEnded("x")]) == []


def test_a_connection_without_addresses_has_no_process(told: Told) -> None:
    nameless = ClientConnection(KEY, None, None, "tcp", None, None, None, find_process=True, is_urgent=False)
    told.searches.add(told.searches.begin([nameless]))
    assert told.searches.take_answers() == [ProcessFound(KEY, None)]


def test_the_end_waits_for_what_is_under_way() -> None:
    with connection() as last, closing(ProcessFinder()) as finder:
        searches = Searches(lambda _: None, finder)
        searches.add(searches.begin([last]))
        searches.end()
        assert pids(searches.take_answers()) == [(KEY, os.getpid())]
