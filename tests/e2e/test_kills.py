"""Kills at seeded random moments under traffic: what the clients have sent is what the store holds, byte for byte."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from rpc.records import Side
from rpc.store import SqliteStore
from tests.peers.api import PATIENCE, Api, eventually
from tests.peers.clients import websocket
from tests.peers.listener import HOST
from tests.peers.origin import Origin, Request, answer
from tests.peers.proxy import Proxy, recording

CHILD_KILLS = 45
PROXY_KILLS = 5
CLIENTS = 4
MARGIN = 0.5
"""Seconds before a kill of the proxy from which on something may be missing. Far less is; but machines are busy."""


def content(number: int) -> bytes:
    """Return the body of a request: mostly small, some of several frames, and large enough for a file."""
    chance = random.Random(number)
    return chance.randbytes(chance.choice([0, 10, 1000, 5000, 5000, 50_000, 2_000_000 if number % 5 == 0 else 100]))


class Exchange(NamedTuple):
    """A request that was answered in full, when."""

    number: int
    done: float


class Clients:
    """Threads that send requests through a proxy, each with a body of its own, and remember what was answered."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.answered: list[Exchange] = []
        self.failed: list[int] = []
        self._numbers = numbers
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def running(self, proxy: Proxy, origin: Origin) -> Iterator[None]:
        self._stop.clear()
        threads = [threading.Thread(target=self._run, args=(proxy.port, origin)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _run(self, port: int, origin: Origin) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        with contextlib.suppress(OSError, http.client.HTTPException), closing(connection):
            while not self._stop.is_set():
                with self._lock:
                    number = next(self._numbers)
                    self.failed.append(number)
                body = content(number)
                connection.request("POST", origin.url(f"/kills?{number}"), body, {"Connection": "keep-alive"})
                response = connection.getresponse()
                assert response.read() == body[::-1]
                with self._lock:
                    self.failed.remove(number)
                    self.answered.append(Exchange(number, time.monotonic()))
                if number % 7 == 0:
                    connection.close()
                time.sleep(0.02)


@pytest.fixture
def mirror(plain_origin: Origin) -> Origin:
    """A server that answers a request with its body turned around."""

    def reply(connection: socket.socket, request: Request) -> None:
        connection.sendall(answer(request.body[::-1]))

    plain_origin.answers["/kills"] = reply
    return plain_origin


class Found(NamedTuple):
    """An entry in the store. Bodies are null if they are not kept."""

    number: int
    is_answered: bool
    request: bytes | None
    response: bytes | None


def read_all(path: Path) -> Iterator[Found]:
    """Read every entry of every session, having seen that the file is sound and nothing is unfinished in it."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM entry WHERE state IS NOT NULL").fetchone() == (0,)
    with closing(SqliteStore(path)) as store:
        for session, _ in store.sessions():
            for entry_id in (entry_id for page in store.entry_ids(session) or () for entry_id in page):
                entry = json.loads(store.entry_json(session, entry_id) or b"")
                if "/kills?" in entry["url"]:
                    number = int(entry["url"].partition("?")[2])
                    is_answered = entry["response"] is not None and entry["response"]["bodySize"] is not None
                    bodies = [body(store, session, entry_id, side) for side in ("request", "response")]
                    yield Found(number, is_answered, *bodies)


def body(store: SqliteStore, session: str, entry_id: str, side: Side) -> bytes | None:
    stored = store.body(session, entry_id, side)
    assert stored is not None
    return None if stored.data is None else b"".join(stored.data.pieces())


def check(found: list[Found], expected: set[int]) -> None:
    """Compare what was found with what the clients have sent; entries that are expected are there and complete."""
    assert Counter(entry.number for entry in found).most_common(1)[0][1] == 1, "an entry is there twice"
    for entry in found:
        sent = content(entry.number)
        if entry.number in expected:
            assert entry.is_answered
        if entry.is_answered:
            assert (entry.request, entry.response) == (sent, sent[::-1])
        else:
            assert sent.startswith(entry.request or b"")
            assert sent[::-1].startswith(entry.response or b"")
    assert expected - {entry.number for entry in found} == set()


def child_of(proxy: Proxy) -> psutil.Process | None:
    return next(iter(proxy.mitmdump.children()), None)


def messages_of(proxy: Proxy, url_end: str) -> list[tuple[str, str]]:
    with Api(proxy.url) as api:
        (entry,) = [entry for entry in api.entries() if entry["url"].endswith(url_end)]
        messages = api.messages(entry) or ()
    texts = [message for message in messages if message["payload"]["type"] == "text"]
    return [(message["side"], message["payload"]["text"]) for message in texts]


def test_kills_of_the_recorders_process_lose_nothing(
    confdir: Path, trusting: tuple[str, ...], mirror: Origin, h2_port: int, tmp_path: Path
) -> None:
    path = tmp_path / "entries.db"
    chance = random.Random(1)
    clients = Clients(iter(range(10**6)))
    exchanged: list[str] = []
    with recording(confdir, *trusting, "--set", f"entries_store={path}") as proxy:
        with ExitStack() as open_now:
            open_now.enter_context(clients.running(proxy, mirror))
            socket_through = open_now.enter_context(websocket(proxy, f"wss://localhost:{h2_port}/kills-socket"))
            kills = 0
            while kills < CHILD_KILLS:
                exchanged.append(f"message {len(exchanged)}")
                socket_through.send(exchanged[-1])
                assert socket_through.recv() == exchanged[-1]
                time.sleep(chance.uniform(0.0, 0.2) * chance.random())
                if (child := child_of(proxy)) is not None and chance.random() < 0.7:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
                        child.wait()
                        kills += 1
                    if chance.random() < 0.9:
                        is_served(proxy.url)
        assert clients.failed == [], "traffic has stopped"
        expected = [pair for text in exchanged for pair in (("client", text), ("server", text))]
        eventually(lambda: messages_of(proxy, "/kills-socket")[: len(expected)], lambda found: found == expected)
        with Api(proxy.url) as api:
            assert api.call("sessions/get_status", sessionId=api.session())["dropped"] == 0
    expected_numbers = {exchange.number for exchange in clients.answered}
    assert len(expected_numbers) > 50
    check(list(read_all(path)), expected_numbers)


def is_served(url: str) -> None:
    """Wait until the endpoint answers again."""

    def look() -> Any:
        try:
            with Api(url) as api:
                return api.call("sessions/list")
        except (OSError, EOFError):
            return None

    eventually(look, bool)


def test_kills_of_the_proxy_lose_no_more_than_the_last_moment(confdir: Path, mirror: Origin, tmp_path: Path) -> None:
    path = tmp_path / "entries.db"
    chance = random.Random(2)
    clients = Clients(iter(range(10**6, 2 * 10**6)))
    expected: set[int] = set()
    for kill in range(PROXY_KILLS):
        with contextlib.suppress(OSError), recording(confdir, "--set", f"entries_store={path}") as proxy:
            before = len(clients.answered)
            child = child_of(proxy)
            assert child is not None
            with clients.running(proxy, mirror):
                time.sleep(chance.uniform(0.2, 1.5))
                killed = time.monotonic()
                proxy.mitmdump.process.kill()
            proxy.mitmdump.process.wait()
            child.wait(PATIENCE)
            expected |= {exchange.number for exchange in clients.answered[before:] if exchange.done < killed - MARGIN}
        assert clients.answered, kill
    assert len(expected) > 50
    check(list(read_all(path)), expected)
