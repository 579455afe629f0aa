"""The Python client against real endpoints, which come and go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from rpc import client_link, records
from rpc.client import (
    Client,
    DisconnectedError,
    EntriesError,
    NotFoundError,
    NotRunningError,
    RequestError,
    connect,
)
from rpc.schema import EntryAdded, EntryUpdated
from tests.peers.api import PATIENCE
from tests.peers.recorder import SESSION, TOKEN, Recorder, answered, configuration, recorder, started
from tests.peers.subscriber import Subscriber, subscriber

UNKNOWN = "01JD8Z7V4B267S7YCE3WYRXDDX"
OTHER_SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABD"


def entry(number: int) -> str:
    return f"01JD8Z7V2NDQ31SRQS54P{number:05}"


def whole(number: int, body: bytes = b"body", **fields: str) -> list[records.Captured]:
    """The records of an entry from its beginning to its end."""
    return [*started(entry(number)), *answered(entry(number), [body], **fields)]


def message(of: str, text: str) -> records.MessageReceived:
    return records.MessageReceived(of, True, "text", text.encode(), 1.0, 1.0)


async def first[Item](count: int, items: AsyncIterator[Item]) -> list[Item]:
    """Take this many items."""
    found: list[Item] = []
    async with asyncio.timeout(PATIENCE):
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    return found


def with_client(scenario: Callable[[Recorder, Client], Coroutine[Any, Any, None]], store: Path | None = None) -> None:
    async def connected(recording: Recorder) -> None:
        async with connect(recording.url) as client:
            await scenario(recording, client)

    with recorder(store) as recording:
        asyncio.run(connected(recording))
        recording.end()


# What there is


def test_methods_return_models() -> None:
    async def scenario(recording: Recorder, client: Client) -> None:
        recording.tell(whole(1, b"\xff\x00body", content_type="text/plain; charset=latin1"))
        recording.tell(started(entry(2)))
        (session,) = await client.sessions()
        assert session.id == SESSION == await client.session()
        assert await client.entry_ids() == [entry(1), entry(2)]
        assert await client.listener_port() is None
        assert (await client.status()).entries == 2
        found = await client.entry(entry(1))
        assert found.response is not None
        assert found.response.status_code == 200
        assert await client.response_body(entry(1)) == b"\xff\x00body"
        assert await client.response_text(entry(1)) == "ÿ\0body"
        assert await client.request_body(entry(1)) == b""
        assert await client.response_body(entry(2)) is None
        page = await client.query("~c 200", limit=1)
        assert [summary.id for summary in page.entries] == [entry(1)]
        assert [summary.id async for summary in client.summaries(order="newest")] == [entry(2), entry(1)]
        assert (await client.discover())["openrpc"].startswith("1.")

    with_client(scenario)


def test_large_body_goes_to_a_file(tmp_path: Path) -> None:
    async def scenario(recording: Recorder, client: Client) -> None:
        body = os.urandom(3 * 2**20 + 1)
        recording.tell(whole(1, body))
        recording.tell(started(entry(2)))
        assert await client.save_body(tmp_path / "body", entry(1)) == len(body)
        assert (tmp_path / "body").read_bytes() == body
        assert await client.save_body(tmp_path / "empty", entry(1), "request") == 0
        assert (tmp_path / "empty").read_bytes() == b""
        assert await client.save_body(tmp_path / "none", entry(2)) is None
        assert not (tmp_path / "none").exists()

    with_client(scenario)


# What goes wrong


def test_error_says_what_to_do(tmp_path: Path) -> None:
    async def scenario(recording: Recorder, client: Client) -> None:
        with pytest.raises(RequestError, match="filter is no valid expression") as refused:
            await client.query("~foo")
        assert (refused.value.method, refused.value.code) == ("sessions/query", -32602)
        with pytest.raises(NotFoundError, match=UNKNOWN):
            await client.entry(UNKNOWN)
        with pytest.raises(NotFoundError, match=UNKNOWN):
            await client.entry_ids(UNKNOWN)
        with pytest.raises(NotFoundError):
            await first(1, client.follow(after=UNKNOWN, session_id=SESSION))
        wrong = connect(f"ws://127.0.0.1:{recording.port}/?token=wrong")
        with pytest.raises(EntriesError, match="takes another token"):
            await wrong.__aenter__()

    with_client(scenario)
    for url in ("http://localhost/?token=x", "ws://localhost/"):
        with pytest.raises(EntriesError, match="is no URL of an endpoint"):
            asyncio.run(connect(url).__aenter__())
    with pytest.raises(NotRunningError, match="start one with"):
        asyncio.run(connect(confdir=tmp_path).__aenter__())


def test_endpoint_that_is_gone_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpc.client.RECONNECT_SECONDS", (0.0, 0.01))

    async def scenario(recording: Recorder, client: Client) -> None:
        await client.sessions()
        await asyncio.to_thread(recording.end)
        with pytest.raises(DisconnectedError, match="Does mitmdump run"):
            await client.sessions()

    async def connected(recording: Recorder) -> None:
        async with connect(recording.url) as client:
            await scenario(recording, client)

    with recorder() as recording:
        asyncio.run(connected(recording))


# As it happens


def test_follow_yields_each_entry_when_it_has_finished() -> None:
    async def scenario(recording: Recorder, client: Client) -> None:
        recording.tell(whole(1))
        following = client.follow(after=SESSION)
        assert [found.id for found in await first(1, following)] == [entry(1)]
        recording.send(*started(entry(2)))
        recording.send(*whole(3))
        recording.send(*answered(entry(2), [b"late"]))
        found = await first(2, client.follow(after=entry(1)))
        assert {one.id for one in found} == {entry(2), entry(3)}
        assert all(one.response and one.response.body_size is not None for one in found)
        await following.aclose()

    with_client(scenario)


def test_follow_yields_what_fits_a_filter() -> None:
    async def scenario(recording: Recorder, client: Client) -> None:
        recording.send(*whole(1))
        recording.send(*whole(2, content_type="image/png"))
        recording.send(*whole(3))
        found = await first(1, client.follow("~t image", after=SESSION))
        assert [one.id for one in found] == [entry(2)]

    with_client(scenario)


def test_messages_are_followed_until_the_websocket_ends() -> None:
    async def scenario(recording: Recorder, client: Client) -> None:
        head = records.ResponseHead(101, b"", b"HTTP/1.1", ())
        done = records.ResponseFinished(entry(1), 0.0, None, b"", 0, (), websocket=True, ended=False)
        recording.tell([*started(entry(1)), records.ResponseStarted(entry(1), 0.0, head, None, None), done])
        recording.tell([message(entry(1), "before")])
        async with aclosing(client.follow_messages(entry(1))) as messages:
            texts = [(await anext(messages)).payload]
            recording.send(*started(entry(2)), message(entry(1), "live"))
            texts.append((await anext(messages)).payload)
            recording.send(message(entry(1), "last"), records.EntryEnded(entry(1)))
            texts += [one.payload async for one in messages]
        assert [text.model_dump()["text"] for text in texts] == ["before", "live", "last"]

    with_client(scenario)


def test_messages_of_what_is_no_websocket_are_not_found() -> None:
    async def scenario(recording: Recorder, client: Client) -> None:
        recording.tell(whole(1))
        with pytest.raises(NotFoundError):
            await first(1, client.follow_messages(entry(1)))

    with_client(scenario)


def test_follow_goes_on_where_it_was_when_the_process_is_replaced(tmp_path: Path) -> None:
    store = tmp_path / "entries.db"

    async def scenario() -> None:
        found: list[str] = []
        with recorder(store) as recording:
            async with connect(recording.url) as client, aclosing(client.follow(after=SESSION)) as following:
                recording.tell([*whole(1), *started(entry(2))])
                found.append((await anext(following)).id)
                recording.kill()
                with recorder(how=configuration(store, port=recording.port), first_frame=20) as again:
                    again.send(*answered(entry(2), [b"late"]))
                    again.send(*whole(3))
                    async with asyncio.timeout(PATIENCE):
                        found += [(await anext(following)).id for _ in range(2)]
                    assert found == [entry(1), entry(2), entry(3)]
                    await following.aclose()
                    again.end()

    asyncio.run(scenario())


def test_slow_consumer_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_link, "MAX_QUEUED", 5)

    async def scenario(recording: Recorder, client: Client) -> None:
        async with aclosing(client.notices(["entry_added", "entry_updated"], after=SESSION)) as notices:
            recording.tell(whole(1))
            assert isinstance(await anext(notices), EntryAdded)
            for number in range(2, 30):
                recording.tell(whole(number))
            added: list[str] = [entry(1)]
            finished: set[str] = set()
            while len(added) < 29 or len(finished) < 29:
                notice = await anext(notices)
                if isinstance(notice, EntryAdded):
                    added.append(notice.entry.id)
                elif isinstance(notice, EntryUpdated) and notice.entry.is_finished:
                    finished.add(notice.entry.id)
            assert added == [entry(number) for number in range(1, 30)]

    with_client(scenario)


# Finding the running instance


def found_in(confdir: Path, session: str = SESSION) -> records.Configuration:
    """A configuration whose run file is this process's."""
    how = configuration(session=session)
    opened = records.SessionOpened(session, "session", time.time())
    run_file = confdir / "entries" / f"{os.getpid()}.json"
    return structs.replace(how, session=opened, access=records.Access(run_file=str(run_file)))


def test_running_instance_is_found_by_its_run_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connect(confdir=tmp_path) as client:
            assert await client.session() == SESSION

    (tmp_path / "entries").mkdir()
    (tmp_path / "entries" / "1.json").write_text("{}")
    with recorder(how=found_in(tmp_path)) as recording:
        asyncio.run(scenario())
        recording.end()


def test_follow_goes_on_with_the_session_of_the_next_instance(tmp_path: Path) -> None:
    async def scenario() -> None:
        with recorder(how=found_in(tmp_path)) as recording:
            client = await connect(confdir=tmp_path).__aenter__()
            following = client.follow(after=SESSION)
            recording.send(*whole(1))
            assert (await anext(following)).id == entry(1)
            await asyncio.to_thread(recording.end)
        with recorder(how=found_in(tmp_path, OTHER_SESSION)) as recording:
            recording.send(*whole(2))
            async with asyncio.timeout(PATIENCE):
                assert (await anext(following)).id == entry(2)
            await following.aclose()
            await client.__aexit__(None, None, None)
            recording.end()

    asyncio.run(scenario())


# Each entry once, whatever happens


class World:
    """A recorder's process that is told of entries, and a subscriber who comes and goes."""

    def __init__(self, recording: Recorder) -> None:
        self.recording = recording
        self.number = 0
        self.known = SESSION
        self.told: list[str] = []
        self.open: list[str] = []

    def begin(self) -> None:
        self.number += 1
        self.open.append(entry(self.number))
        self.recording.send(*started(self.open[-1]))

    def finish(self) -> None:
        if self.open:
            self.recording.send(*answered(self.open.pop(0), [b"x"]))

    async def attend(self, steps: list[str]) -> None:
        """Subscribe, let happen what is to happen, and leave without a word, having read some of what was told."""
        async with subscriber(self.recording.url) as client:
            await client.subscribe(after=self.known)
            for step in steps:
                (self.begin if step == "begin" else self.finish)()
                if step == "read":
                    await client.call("sessions/list")
            self.take(client)
            client.connection.transport.abort()

    def take(self, client: Subscriber) -> None:
        self.told += client.added()
        self.known = self.told[-1] if self.told else SESSION


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.sampled_from(["begin", "finish", "read"]), max_size=12), min_size=1, max_size=5), st.data())
def test_each_entry_is_added_once_whatever_happens_between(visits: list[list[str]], data: st.DataObject) -> None:
    async def scenario(recording: Recorder) -> None:
        world = World(recording)
        for steps in visits:
            await world.attend(steps)
            for _ in range(data.draw(st.integers(0, 3))):  # while nobody is there
                world.begin()
        world.begin()
        async with subscriber(recording.url) as client:
            await client.subscribe(after=world.known)
            await client.wait_for("entry_added", lambda params: params["entry"]["id"] == entry(world.number))
            world.take(client)
        assert world.told == [entry(number) for number in range(1, world.number + 1)]

    with recorder() as recording:
        asyncio.run(scenario(recording))
        recording.end()


def test_token_is_not_in_the_url_that_errors_repeat() -> None:
    with pytest.raises(DisconnectedError) as failed:
        asyncio.run(connect(f"ws://127.0.0.1:1/?token={TOKEN}").__aenter__())
    assert TOKEN not in str(failed.value)
