"""The link and a real child."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from addon import link as linking
from addon.link import ChildError, Link
from addon.outbox import Outbox
from rpc import records
from rpc.store import SqliteStore
from tests.peers.api import Api
from tests.peers.recorder import SESSION, answered, configuration, started

PATIENCE = 60.0
IDS = [f"01JD8Z7V2NDQ31SRQS54PZ{number:04d}" for number in range(2000)]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "entries.db"


def run(scenario: Callable[[Link], Awaitable[None]]) -> None:
    async def within_time() -> None:
        link = Link()
        async with asyncio.timeout(PATIENCE):
            try:
                await scenario(link)
            finally:
                if not link._is_ending:
                    await link.end()

    asyncio.run(within_time())


async def until(is_so: Callable[[], Any]) -> None:
    while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.01)


def send(link: Link, told: Iterator[records.Captured]) -> None:
    for record in told:
        link.send(record)


def whole(entry: str, body: bytes = b"x") -> Iterator[records.Captured]:
    yield from started(entry)
    yield from answered(entry, [body])


def kill(link: Link, with_signal: signal.Signals = signal.SIGKILL) -> None:
    assert link._process is not None
    os.kill(link._process.pid, with_signal)


def ids(path: Path) -> list[str]:
    with closing(SqliteStore(path)) as store:
        return [entry_id for page in store.entry_ids(SESSION) or () for entry_id in page]


def small(link: Link, limit: int = 10_000) -> None:
    """Let the link take little before there is no room."""
    link._outbox = Outbox(limit=limit)


def test_what_is_sent_is_stored_when_the_link_has_ended(path: Path) -> None:
    async def scenario(link: Link) -> None:
        await link.start(configuration(path))
        for entry in IDS[:100]:
            send(link, whole(entry))
        await link.end()
        assert link._outbox.is_empty

    run(scenario)
    assert ids(path) == IDS[:100]


def test_what_is_sent_before_the_child_is_there_is_stored(path: Path) -> None:
    async def scenario(link: Link) -> None:
        starting = asyncio.create_task(link.start(configuration(path)))
        await asyncio.sleep(0)
        send(link, whole(IDS[0]))
        link.flush()
        send(link, whole(IDS[1]))
        await starting

    run(scenario)
    assert ids(path) == IDS[:2]


def test_what_comes_steadily_is_written_less_often() -> None:
    async def delay(link: Link, *, flushed: float) -> float:
        loop = asyncio.get_running_loop()
        link._flushed = loop.time() + flushed
        link.send(records.EntryEnded(IDS[0]))
        assert link._gathering is not None
        left = link._gathering.when() - loop.time()
        link.flush()
        return left

    async def scenario(link: Link) -> None:
        assert await delay(link, flushed=-1) <= linking.GATHER_SECONDS
        assert await delay(link, flushed=9) > 8  # it cannot have been, but the machine may be slow

    run(scenario)


def test_child_that_cannot_serve_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database")

    async def scenario(link: Link) -> None:
        with pytest.raises(ChildError, match="is not a store of entries"):
            await link.start(configuration(tmp_path / "file"))
        send(link, whole(IDS[0]))
        assert link.room() is None

    run(scenario)


def test_child_that_ends_while_it_starts_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("addon.link.sys.executable", "/bin/false")

    async def scenario(link: Link) -> None:
        with pytest.raises(ChildError, match="ended while it was starting"):
            await link.start(configuration(path))

    run(scenario)


def test_child_that_does_not_come_up_is_an_error(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr("addon.link.sys.executable", str(program))
    monkeypatch.setattr(linking, "START_SECONDS", 0.1)

    async def scenario(link: Link) -> None:
        with pytest.raises(ChildError, match="did not come up"):
            await link.start(configuration(path))
        assert link._process is not None
        await link._process.wait()

    run(scenario)


def test_child_that_dies_is_replaced_and_sent_what_it_did_not_store(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(link: Link) -> None:
        port = await link.start(configuration(path))
        entries = iter(IDS)
        for _ in range(4):
            process = link._process
            for _ in range(20):
                send(link, whole(next(entries)))
                await asyncio.sleep(0.002)
            kill(link)
            send(link, whole(next(entries)))
            await until(partial(has_another, link, process))
        await until(lambda: link._outbox.is_empty)
        told = IDS[: IDS.index(next(entries))]
        found = await asyncio.to_thread(ask_ids, f"ws://127.0.0.1:{port}/?token=token")
        assert found == told

    run(scenario)
    assert sum("another one takes its place" in message for message in caplog.messages) == 4


def has_another(link: Link, process: asyncio.subprocess.Process | None) -> bool:
    return link._process is not process and link._takes_frames


def ask_ids(url: str) -> list[str]:
    with Api(url) as api:
        return api.entry_ids(SESSION)


def test_child_that_dies_with_the_link_is_replaced_to_store_the_rest(path: Path) -> None:
    async def scenario(link: Link) -> None:
        await link.start(configuration(path))
        kill(link, signal.SIGSTOP)
        for entry in IDS[:50]:
            send(link, whole(entry))
        ending = link.end()
        await asyncio.sleep(0.05)
        kill(link)
        await ending
        assert link._outbox.is_empty

    run(scenario)
    assert ids(path) == IDS[:50]


def test_child_that_cannot_be_kept_running_is_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(linking, "RESTART_SECONDS", (0.0, 0.0))

    async def scenario(link: Link) -> None:
        small(link)
        await link.start(configuration(path))
        monkeypatch.setattr("addon.link.sys.executable", "/bin/false")
        kill(link, signal.SIGSTOP)
        while (room := link.room()) is None:
            send(link, whole(IDS[0]))
            link.flush()
        kill(link)
        await room
        send(link, whole(IDS[1]))
        assert link.room() is None
        assert link._outbox.take() is None
        await link.end()

    run(scenario)
    assert sum("is not recorded any more" in message for message in caplog.messages) == 1


def test_temporary_store_of_a_child_that_is_given_up_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "RESTART_SECONDS", ())
    how = configuration()

    async def scenario(link: Link) -> None:
        await link.start(how)
        assert stat.S_IMODE(Path(how.store).parent.stat().st_mode) == 0o700
        kill(link)
        await until(lambda: link._is_closed)
        assert Path(how.store).exists()  # noqa: ASYNC240 - nothing else runs
        await link.end()

    run(scenario)
    assert not Path(how.store).parent.exists()
    assert Path(how.store).parent.parent == Path(tempfile.gettempdir())


def test_hooks_wait_for_room_and_go_on_when_the_child_has_caught_up(path: Path) -> None:
    async def scenario(link: Link) -> None:
        small(link)
        await link.start(configuration(path))
        kill(link, signal.SIGSTOP)
        while link.room() is None:
            send(link, whole(IDS[0]))
            link.flush()
        room = link.room()
        assert room is not None
        waiting = asyncio.ensure_future(room)
        await asyncio.sleep(0.1)
        assert not waiting.done()
        kill(link, signal.SIGCONT)
        await waiting
        await until(lambda: link.room() is None)
        assert not link._gap.is_open

    run(scenario)


def test_child_that_does_not_keep_up_costs_entries_and_not_traffic(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(linking, "PATIENCE_SECONDS", 0.2)

    async def scenario(link: Link) -> None:
        small(link)
        link.on_gap = lambda: [1]
        port = await link.start(configuration(path))
        send(link, started("01JD8Z7V2NDQ31SRQS54PZ9999"))
        await until(lambda: link._outbox.is_empty and not link._gathering)
        kill(link, signal.SIGSTOP)
        entries = iter(IDS)
        while (room := link.room()) is None:
            send(link, whole(next(entries)))
            link.flush()
        await room
        before = IDS[: IDS.index(next(entries))]
        for _ in range(100):
            send(link, whole(next(entries)))
            assert link.room() is None
        send(link, answered("01JD8Z7V2NDQ31SRQS54PZ9999", [b"cut"]))
        kill(link, signal.SIGCONT)
        await until(lambda: not link._gap.is_open)
        entry = next(entries)
        send(link, whole(entry))
        await until(lambda: link._outbox.is_empty and not link._gathering)
        await asyncio.to_thread(check, f"ws://127.0.0.1:{port}/?token=token", [*before, entry])

    def check(url: str, expected: list[str]) -> None:
        with Api(url) as api:
            assert api.entry_ids(SESSION) == ["01JD8Z7V2NDQ31SRQS54PZ9999", *expected]
            status = api.call("sessions/get_status", sessionId=SESSION)
            assert status["dropped"] == 101
            assert status["droppedSince"] < status["droppedUntil"]
            cut = api.get("01JD8Z7V2NDQ31SRQS54PZ9999", SESSION)
            assert cut["response"] is None

    run(scenario)
    assert sum("has not kept up" in message for message in caplog.messages) == 1
    assert sum("101 entries are missing or incomplete" in message for message in caplog.messages) == 1
    with closing(SqliteStore(path)) as store:
        assert store.unfinished(SESSION) == []


def test_link_that_starts_waits_for_one_that_ends(path: Path) -> None:
    async def scenario(first: Link) -> None:
        port = await first.start(configuration(path))
        send(first, whole(IDS[0]))
        first.end()
        second = Link()
        other = configuration(path, session="01JD8Z7T5M0E9R3Q6W2XKY4ABD", port=port)
        assert await second.start(other) == port
        await second.end()

    run(scenario)
    assert ids(path) == IDS[:1]


def test_link_that_never_started_ends() -> None:
    async def scenario(link: Link) -> None:
        await link.end()

    run(scenario)


def test_link_that_ends_while_it_starts_leaves_no_child(path: Path) -> None:
    async def scenario(link: Link) -> None:
        starting = asyncio.create_task(link.start(configuration(path)))
        await until(lambda: link._process is not None)
        await link.end()
        await starting
        assert link._process is not None
        assert link._process.returncode == 0

    run(scenario)
