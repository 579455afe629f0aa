from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

from rpc import records
from rpc.outlet import MAX_WAITING
from tests.peers.api import RpcError
from tests.peers.recorder import CHUNK_SIZE, SESSION, Recorder, answered, configuration, recorder, started
from tests.peers.subscriber import subscriber

UNKNOWN = "01JD8Z7V4B267S7YCE3WYRXDDX"
OTHER_SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABD"


def entry(number: int) -> str:
    return f"01JD8Z7V2NDQ31SRQS54P{number:05}"


def told(what: Iterable[records.Captured], recording: Recorder) -> None:
    """Send records at once, as one frame."""
    recording.send(*what)


def message(of: str, text: str, *, more: bool = False) -> records.MessageReceived:
    return records.MessageReceived(of, True, "text", text.encode(), 1.0, 1.0, more=more)


def with_recorder(scenario: Callable[[Recorder], Coroutine[Any, Any, None]], store: Path | None = None) -> None:
    with recorder(store) as recording:
        asyncio.run(scenario(recording))
        recording.end()


def test_entry_is_announced_when_it_begins_changes_and_finishes() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            identity = await client.subscribe()
            told(started(entry(1)), recording)
            begun = await client.wait_for("entry_added")
            assert begun["subscriptionId"] == identity
            assert begun["sessionId"] == SESSION
            assert begun["entry"]["id"] == entry(1)
            assert (begun["entry"]["statusCode"], begun["entry"]["isFinished"]) == (None, False)
            head, *rest = answered(entry(1), [b"body"], content_type="Text/HTML; charset=utf-8")
            told([head], recording)
            update = await client.wait_for("entry_updated")
            assert update["changes"] == ["response"]
            assert update["entry"]["mimeType"] == "text/html"
            told(rest, recording)
            end = await client.wait_for("entry_updated")
            assert end["changes"] == ["body", "finished"]
            assert (end["entry"]["isFinished"], end["entry"]["responseBodySize"]) == (True, 4)
            assert await client.call("sessions/get_entry", sessionId=SESSION, entryId=entry(1))

    with_recorder(scenario)


def test_entry_that_is_over_at_once_begins_once_and_finishes_once() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe()
            for number in (1, 2):
                told([*started(entry(number)), *answered(entry(number), [b"x"])], recording)
                await client.wait_for("entry_updated", lambda params: "finished" in params["changes"])
            assert [one.event for one in client.told].count("entry_updated") == 2
            assert client.added() == [entry(1), entry(2)]

    with_recorder(scenario)


def test_failure_is_told_with_its_reason() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe(events=["entry_updated"])
            told(started(entry(1)), recording)
            told([records.EntryFailed(entry(1), 0.25, "connection reset", None, None)], recording)
            failed = await client.wait_for("entry_updated", lambda params: params["entry"]["isFinished"])
            assert (failed["entry"]["error"], failed["entry"]["duration"]) == ("connection reset", 250)

    with_recorder(scenario)


def test_messages_are_told_with_their_places_before_the_entry_finishes() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe()
            finish = records.EntryEnded(entry(1))
            told([*started(entry(1)), message(entry(1), "a"), message(entry(1), "é\n"), finish], recording)
            await client.wait_for("entry_updated", lambda params: "finished" in params["changes"])
            names = [one.event for one in client.told]
            assert names == ["entry_added", "websocket_message_added", "websocket_message_added", "entry_updated"]
            messages = [one.params for one in client.told[1:3]]
            assert [one["index"] for one in messages] == [0, 1]
            assert [one["message"]["payload"]["text"] for one in messages] == ["a", "é\n"]

    with_recorder(scenario)


def test_message_that_is_too_long_is_told_of_without_its_payload() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe()
            told(started(entry(1)), recording)
            told([message(entry(1), "long", more=True)], recording)
            told([records.MessageContinued(entry(1), "text", b"er", more=False)], recording)
            told([message(entry(1), "short")], recording)
            long, short = [await client.wait_for("websocket_message_added") for _ in range(2)]
            assert (long["index"], long["message"]) == (0, None)
            assert (short["index"], short["message"]["payload"]["text"]) == (1, "short")

    with_recorder(scenario)


def test_bytes_of_bodies_are_told_to_those_who_ask() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as asks, subscriber(recording.url) as does_not:
            await asks.subscribe(events=["body_chunk"])
            await does_not.subscribe()
            told(started(entry(1)), recording)
            told(answered(entry(1), [b"one", b"\xff two"]), recording)
            chunks = [await asks.wait_for("body_chunk") for _ in range(2)]
            assert [(chunk["side"], chunk["offset"]) for chunk in chunks] == [("response", 0), ("response", 3)]
            assert [base64.b64decode(chunk["data"]) for chunk in chunks] == [b"one", b"\xff two"]
            await does_not.wait_for("entry_updated", lambda params: params["entry"]["isFinished"])
            assert "body_chunk" not in {one.event for one in does_not.told}

    with_recorder(scenario)


def test_after_an_entry_what_was_missed_is_told_first_and_each_entry_once() -> None:
    async def scenario(recording: Recorder) -> None:
        for number in range(1, 6):
            recording.tell([*started(entry(number))])
        recording.tell(answered(entry(1), [b"changed while nobody was there"]))
        async with subscriber(recording.url) as client:
            await client.subscribe(sessionId=SESSION, after=entry(2))
            told(started(entry(6)), recording)
            await client.wait_for("entry_added", lambda params: params["entry"]["id"] == entry(6))
            assert client.added() == [entry(3), entry(4), entry(5), entry(6)]
            updates = [one.params for one in client.told if one.event == "entry_updated"]
            assert any(one["entry"]["id"] == entry(1) and "finished" in one["changes"] for one in updates)

    with_recorder(scenario)


def test_after_the_session_everything_is_told_in_order_of_creation() -> None:
    async def scenario(recording: Recorder) -> None:
        numbers = range(1, 1001)
        recording.tell(itertools.chain.from_iterable(started(entry(number)) for number in numbers))
        async with subscriber(recording.url) as client:
            await client.subscribe(after=SESSION)
            # What changes while it is told is told too.
            told(answered(entry(3), [b"x"]), recording)
            told(started(entry(1001)), recording)
            await client.wait_for("entry_added", lambda params: params["entry"]["id"] == entry(1001))
            assert client.added() == [*map(entry, numbers), entry(1001)]
            third = [one.params["entry"] for one in client.told if one.params.get("entry", {}).get("id") == entry(3)]
            if not third[-1]["isFinished"]:
                await client.wait_for("entry_updated", lambda params: params["entry"]["id"] == entry(3))

    with_recorder(scenario)


def test_unknown_session_or_entry_is_null() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            assert await client.call("sessions/subscribe", sessionId=UNKNOWN) is None
            assert await client.call("sessions/subscribe", after=UNKNOWN) is None
            assert await client.call("sessions/unsubscribe", subscriptionId="7") is None

    with_recorder(scenario)


def test_unknown_event_is_refused() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            with pytest.raises(RpcError) as refused:
                await client.subscribe(events=["entry_removed"])
            assert refused.value.code == -32602

    with_recorder(scenario)


def test_too_many_subscriptions_are_refused_and_ending_one_makes_room() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            identities = [await client.subscribe() for _ in range(64)]
            assert len(set(identities)) == 64
            with pytest.raises(RpcError) as refused:
                await client.subscribe()
            assert refused.value.code == -32000
            assert await client.call("sessions/unsubscribe", subscriptionId=identities[0]) is True
            assert await client.subscribe()

    with_recorder(scenario)


def test_nothing_is_told_after_the_end_of_a_subscription() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            ended = await client.subscribe()
            goes_on = await client.subscribe()
            await client.call("sessions/unsubscribe", subscriptionId=ended)
            told(started(entry(1)), recording)
            assert (await client.wait_for("entry_added"))["subscriptionId"] == goes_on
            await client.call("sessions/list")
            assert [one.params["subscriptionId"] for one in client.told] == [goes_on]

    with_recorder(scenario)


def test_client_that_does_not_read_is_told_once_that_it_lags_and_can_go_on_from_there() -> None:
    async def scenario(recording: Recorder) -> None:
        async with (
            subscriber(recording.url, max_queue=1) as slow,
            subscriber(recording.url) as quick,
        ):
            await slow.subscribe(events=["entry_added", "body_chunk"])
            await quick.subscribe(events=["entry_added"])
            numbers = range(1, 3 * MAX_WAITING // CHUNK_SIZE)
            for number in numbers:
                recording.tell([*started(entry(number)), *answered(entry(number), [bytes(CHUNK_SIZE)])])
                await quick.wait_for("entry_added")
            assert quick.added() == [*map(entry, numbers)]
            lagged = await slow.wait_for("lagged")
            assert lagged["missed"] > 0
            assert slow.added()[-1] == lagged["after"]
            assert len(slow.added()) < len(numbers)
            await slow.subscribe(events=["entry_added"], after=lagged["after"])
            await slow.wait_for("entry_added", lambda params: params["entry"]["id"] == entry(numbers[-1]))
            assert slow.added() == [*map(entry, numbers)]
            assert [one.event for one in slow.told].count("lagged") == 1

    with_recorder(scenario)


def test_what_was_told_outlives_the_process(tmp_path: Path) -> None:
    store = tmp_path / "entries.db"
    known: list[str] = []

    async def until_killed(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe()
            told(started(entry(1)), recording)
            await client.wait_for("entry_added")
            recording.kill()
            known.extend(client.added())

    async def again(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe(after=known[-1])
            # The proxy sends again what it does not know to be stored.
            recording.send(*started(entry(1)), number=1)
            recording.send(*started(entry(2)), number=2)
            await client.wait_for("entry_added")
            assert known + client.added() == [entry(1), entry(2)]

    with recorder(store) as recording:
        asyncio.run(until_killed(recording))
    with_recorder(again, store)


def test_sessions_of_other_processes_in_the_same_store_are_told(tmp_path: Path) -> None:
    store = tmp_path / "entries.db"

    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe()
            with recorder(how=configuration(store, session=OTHER_SESSION)) as other:
                opened = await client.wait_for("opened")
                assert opened["session"] == {"id": OTHER_SESSION, "name": "session"}
                other.end()
            assert (await client.wait_for("closed"))["session"]["id"] == OTHER_SESSION

    with_recorder(scenario, store)


def test_end_of_the_session_is_told_before_the_connection_is_closed() -> None:
    async def scenario(recording: Recorder) -> None:
        async with subscriber(recording.url) as client:
            await client.subscribe()
            told(started(entry(1)), recording)
            ending = asyncio.create_task(asyncio.to_thread(recording.end))
            closed = await client.wait_for("closed")
            assert closed["session"]["id"] == SESSION
            assert [one.event for one in client.told][-2:] == ["entry_updated", "closed"]
            await client.connection.wait_closed()
            await ending

    with recorder() as recording:
        asyncio.run(scenario(recording))
