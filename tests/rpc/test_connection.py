"""Connections of real clients, well-behaved and not, to a real endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rpc import connection
from rpc.endpoint import Endpoint
from rpc.jsonrpc import Dispatcher, Method, Text
from rpc.records import Access, Limits
from rpc.schema import NoParams

HOST = "127.0.0.1"
TOKEN = "0123456789abcdefghij_-"
MIB = 2**20

LARGE_PING = b"\x89\xfd" + bytes(4 + 125)
PING = b"\x89\x80" + bytes(4)
HEAD = f"GET /?token={TOKEN} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n".encode()
KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
HANDSHAKE = HEAD + KEY


async def endless(_: NoParams) -> Text:
    async def ones() -> AsyncGenerator[str]:
        while True:
            yield "1" * MIB

    return ones()


async def slow(_: NoParams) -> str:
    await asyncio.sleep(0.5)
    return "null"


DISPATCHER = Dispatcher(
    [
        Method("nothing", NoParams, lambda _: "null"),
        Method("endless", NoParams, endless),
        Method("slow", NoParams, slow),
    ]
)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", HOST)


def run(
    scenario: Callable[[Endpoint], Awaitable[None]], limits: Limits | None = None, access: Access | None = None
) -> None:
    async def with_endpoint() -> None:
        served = await Endpoint.start(
            DISPATCHER, host=HOST, port=0, token=TOKEN, access=access or Access(), limits=limits or Limits()
        )
        try:
            async with asyncio.timeout(60):
                await scenario(served)
        finally:
            await served.close()

    asyncio.run(with_endpoint())


def client(served: Endpoint, **options: Any) -> connect:
    return connect(f"ws://{HOST}:{served.port}/?token={TOKEN}", **options)


def request(method: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": method, "method": method})


async def assert_works(connected: ClientConnection) -> None:
    await connected.send(request("nothing"))
    assert json.loads(await connected.recv()) == {"jsonrpc": "2.0", "id": "nothing", "result": None}


async def discard_all(connected: ClientConnection) -> None:
    while True:
        await connected.recv()


async def everybody_gone(served: Endpoint) -> None:
    while served._crowd.everybody:  # noqa: ASYNC110  they tell nobody of their end
        await asyncio.sleep(0.02)


async def closed(connected: ClientConnection) -> tuple[int, str]:
    """Return the code and the reason that the server closes the connection with."""
    with pytest.raises(ConnectionClosed) as error:
        await discard_all(connected)
    assert error.value.rcvd is not None
    return error.value.rcvd.code, error.value.rcvd.reason


@contextlib.asynccontextmanager
async def raw(served: Endpoint) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, served.port, limit=1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the connection is closed or reset."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await reader.read(2**16):
            data += chunk
    return data


def text_frame(text: str) -> bytes:
    """A client's short text message, masked with zeroes (RFC 6455 section 5.3)."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


# At the door


def test_there_is_room_for_so_many_clients_and_for_another_when_one_leaves() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as first, client(served):
            with pytest.raises(InvalidStatus) as refused:
                await client(served)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "5"
            await assert_works(first)
        async with client(served) as another:
            await assert_works(another)

    run(scenario, Limits(connections=2))


def test_clients_that_stay_at_the_door_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpc.crowd.Crowd.__init__.__defaults__", (10,))

    async def scenario(served: Endpoint) -> None:
        async with contextlib.AsyncExitStack() as stack:
            waiting = [await stack.enter_async_context(raw(served)) for _ in range(50)]
            for _ in range(3):
                async with client(served) as connected:
                    await assert_works(connected)
            assert await waiting[0][0].read() == b""
            assert not waiting[-1][0].at_eof()

    run(scenario)


def test_a_handshake_that_takes_too_long_is_given_up() -> None:
    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer):
            writer.write(HEAD)
            assert await reader.read() == b""

    run(scenario, Limits(open_seconds=1))


@pytest.mark.parametrize("line", [b"X: " + b"x" * 4000 + b"\r\n", b"X: y\r\n"])
def test_a_request_with_a_large_head_is_refused_before_it_ends(line: bytes) -> None:
    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer):
            writer.write(HEAD)
            with contextlib.suppress(ConnectionError):
                for _ in range(2 * MIB // len(line) // 100):
                    writer.write(line * 100)
                    await writer.drain()
            answer = await read_all(reader)
            assert answer[:12] in {b"HTTP/1.1 431", b""}  # it is lost if the rest is still under way

    run(scenario)


def test_a_head_of_usual_size_is_not_too_large() -> None:
    async def scenario(served: Endpoint) -> None:
        fields = {f"X-{number}": "x" * 100 for number in range(80)}
        async with client(served, additional_headers=fields) as connected:
            await assert_works(connected)

    run(scenario)


def test_what_follows_a_handshake_is_not_looked_at_before_the_client_has_come_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames: list[object] = []
    process_event = ServerConnection.process_event

    def note(self: ServerConnection, event: Any) -> None:
        frames.append(event)
        process_event(self, event)

    monkeypatch.setattr(ServerConnection, "process_event", note)

    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer):
            writer.write(HANDSHAKE.replace(TOKEN.encode(), b"wrong") + text_frame(request("nothing")) * 2000)
            await reader.readuntil(b"\r\n\r\n")
            assert len(frames) < 100

    run(scenario)


# Floods


def test_pings_of_a_client_that_does_not_read_take_no_memory() -> None:
    """Each is answered by a pong, which waits here."""

    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (_, writer), client(served) as bystander:
            writer.write(HANDSHAKE)
            flood = asyncio.create_task(write_on(writer, LARGE_PING * 1000))
            while not (hostile := [one for one in served._crowd.everybody if one._is_unread]):
                await assert_works(bystander)
            before = hostile[0].transport.get_write_buffer_size()
            for _ in range(100):
                await assert_works(bystander)
            assert before <= hostile[0].transport.get_write_buffer_size() < MIB
            assert len(hostile[0]._held) < MIB
            flood.cancel()

    run(scenario)


async def write_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()


def test_a_flood_of_frames_is_taken_in_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read can have forty thousand frames in it, which take most of a second together."""
    turns: list[int] = []
    hand_on = connection.Connection._hand_on

    def note(self: connection.Connection, part: bytes) -> None:
        turns[-1] += len(part)
        hand_on(self, part)

    monkeypatch.setattr(connection.Connection, "_hand_on", note)

    async def scenario(served: Endpoint) -> None:
        turns.append(0)
        async with raw(served) as (reader, writer):
            writer.write(HANDSHAKE + PING * 20_000)
            while sum(turns) < len(HANDSHAKE) + len(PING) * 20_000:
                await asyncio.sleep(0)
                turns.append(0)
                reader._buffer.clear()  # type: ignore[attr-defined]
                reader._maybe_resume_transport()  # type: ignore[attr-defined]
            assert max(turns) < 60_000

    run(scenario)


def test_a_message_in_many_small_parts_arrives_whole() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as connected:
            text = request("nothing")
            await connected.send([*text, *(" " * 3000)])
            assert json.loads(await connected.recv())["result"] is None
            await assert_works(connected)

    run(scenario)


@pytest.mark.parametrize("requests", [1, 2, 16])
def test_no_more_is_read_while_so_many_requests_wait(requests: int) -> None:
    """They wait in the client instead; nothing is lost."""

    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer):
            writer.write(HANDSHAKE + text_frame(request("slow")) + text_frame(request("nothing")) * 5000)
            await reader.readuntil(b"\r\n\r\n")
            (served_one,) = served._crowd.everybody
            await asyncio.sleep(0.2)
            assert served_one._held
            answers = 0
            while answers < 5001:
                answers += (await reader.read(2**16)).count(b"\x81")

    run(scenario, Limits(requests=requests))


# Idle clients


def test_a_client_that_is_gone_without_a_word_is_disconnected() -> None:
    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer), client(served, ping_interval=0.1) as alive:
            writer.write(HANDSHAKE)
            rest = (await read_all(reader)).partition(b"\r\n\r\n")[2]
            assert rest.endswith(b"\x03\xf0idle for 1 seconds")
            await assert_works(alive)

    run(scenario, Limits(idle_seconds=1))


@pytest.mark.parametrize("method", ["endless", "nothing"])
def test_a_client_that_never_reads_is_disconnected(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.1)

    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer):
            writer.write(HANDSHAKE + text_frame(request(method)) * (1 if method == "endless" else 100_000))
            await reader.readuntil(b"\r\n\r\n")
            await everybody_gone(served)

    run(scenario, Limits(idle_seconds=1))


def test_a_client_that_reads_slowly_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.1)

    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer):
            writer.write(HANDSHAKE + text_frame(request("endless")))
            for _ in range(40):
                await reader.readexactly(300_000)
                await asyncio.sleep(0.05)
            assert served._crowd.everybody

    run(scenario, Limits(idle_seconds=1))


def test_a_client_whose_request_takes_long_is_not_idle() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, ping_interval=None) as connected:
            for _ in range(4):
                await connected.send(request("slow"))
            for _ in range(4):
                assert json.loads(await connected.recv())["id"] == "slow"

    run(scenario, Limits(idle_seconds=1, requests=1))


# TLS

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Access:
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    AUTHORITY.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(path))
    return Access(certificate=str(path))


def secure_client(served: Endpoint) -> connect:
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    return connect(f"wss://{HOST}:{served.port}/?token={TOKEN}", ssl=trusting)


def test_over_tls_it_works_as_in_the_clear(tls: Access) -> None:
    async def scenario(served: Endpoint) -> None:
        async with secure_client(served) as one, secure_client(served) as other:
            await assert_works(one)
            await other.send([*request("nothing"), *(" " * 3000)])
            assert json.loads(await other.recv())["result"] is None
            await one.send(request("endless"))
            await assert_works(other)
            await served.close()
            assert (await closed(other))[0] == 1001
        assert served._crowd.everybody == []

    run(scenario, access=tls)


@pytest.mark.parametrize(
    "first", [b"", b"\x16", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 1000]
)
def test_what_does_not_get_through_the_tls_handshake_is_gone_and_says_nothing(
    tls: Access, first: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(served: Endpoint) -> None:
        async with raw(served) as (reader, writer):
            writer.write(first)
            assert b"HTTP" not in await read_all(reader)
        await everybody_gone(served)
        async with secure_client(served) as connected:
            await assert_works(connected)

    run(scenario, Limits(open_seconds=1), tls)
    assert [record for record in caplog.records if record.name != "asyncio" or record.levelname == "ERROR"] == []


def test_clients_that_stay_in_the_tls_handshake_keep_nobody_out(tls: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpc.crowd.Crowd.__init__.__defaults__", (10,))

    async def scenario(served: Endpoint) -> None:
        async with contextlib.AsyncExitStack() as stack:
            waiting = [await stack.enter_async_context(raw(served)) for _ in range(50)]
            async with secure_client(served) as connected:
                await assert_works(connected)
            assert await read_all(waiting[0][0]) == b""

    run(scenario, access=tls)
