from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rpc import endpoint, failures
from rpc.endpoint import MAX_FRAME, REQUESTS_PER_TURN, Endpoint
from rpc.failures import FREE_FAILURES
from rpc.jsonrpc import Dispatcher, Method, Text, json_string
from rpc.records import Access, Limits
from rpc.schema import NoParams, SessionParams

HOST = "127.0.0.1"
TOKEN = "T0ken+with/odd =&%é characters"
MAX_MESSAGE = Limits().message
LARGE = 24 * 2**20 + 5
"""Characters of a large answer: more than the buffers of both ends of a loopback connection take."""


async def hang(_: NoParams) -> str:
    await asyncio.Event().wait()
    raise AssertionError


SMALL_AND_LARGE = ["é漢😀x" * (1 if number % 3 else MAX_FRAME // 3) for number in range(200)]


async def in_pieces(_: NoParams) -> Text:
    return strings(*SMALL_AND_LARGE)


async def strings(*texts: str) -> AsyncGenerator[str]:
    yield '"'
    for text in texts:
        yield text
    yield '"'


DISPATCHER = Dispatcher(
    [
        Method("nothing", NoParams, lambda _: "null"),
        Method("echo", SessionParams, lambda params: json_string(params.session_id)),
        Method("large", NoParams, lambda _: f'"{"é漢😀x" * (LARGE // 4)}"'),
        Method("in_pieces", NoParams, in_pieces),
        Method("hang", NoParams, hang),
    ]
)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", HOST)


def run(
    scenario: Callable[[Endpoint], Awaitable[None]],
    dispatcher: Dispatcher = DISPATCHER,
    token: str = TOKEN,
    **options: Any,
) -> None:
    async def with_endpoint() -> None:
        served = await Endpoint.start(dispatcher, host=HOST, port=0, token=token, **options)
        try:
            async with asyncio.timeout(60):
                await scenario(served)
        finally:
            await served.close()

    asyncio.run(with_endpoint())


def client(served: Endpoint, target: str | None = None, **options: Any) -> connect:
    target = f"/?token={quote(TOKEN, safe='')}" if target is None else target
    return connect(f"ws://{HOST}:{served.port}{target}", **options)


def request(identity: Any, method: str = "nothing", **params: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})


async def answer(connection: ClientConnection, text: str) -> Any:
    await connection.send(text)
    return json.loads(await connection.recv())


async def assert_works(connection: ClientConnection) -> None:
    assert await answer(connection, request("works")) == {"jsonrpc": "2.0", "id": "works", "result": None}


async def close_code(connection: ClientConnection) -> int | None:
    """Return the code that the server closes the connection with."""
    with pytest.raises(ConnectionClosed) as closed:
        await connection.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@contextlib.asynccontextmanager
async def raw_connection(served: Endpoint, first: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A client that sends some bytes and nothing else. Its reader's buffer is small."""
    reader, writer = await asyncio.open_connection(HOST, served.port, limit=1024)
    try:
        writer.write(first)
        yield reader
    finally:
        writer.transport.abort()


async def read_to_the_end(reader: asyncio.StreamReader) -> int:
    """Return how many bytes still came before the connection was closed or reset."""
    length = 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := await reader.read(2**16):
            length += len(chunk)
    return length


def handshake(method: str = "GET", target: str | None = None) -> bytes:
    target = f"/?token={quote(TOKEN, safe='')}" if target is None else target
    lines = (f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket")
    key = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    return "\r\n".join((*lines, *key, "", "")).encode()


def text_frame(text: str) -> bytes:
    """A client's short text message, masked with zeroes (RFC 6455 section 5.3)."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


# Listening


def test_port_0_picks_a_free_port() -> None:
    async def scenario(served: Endpoint) -> None:
        assert served.port > 0
        async with client(served) as connection:
            await assert_works(connection)

    run(scenario)


def test_port_that_is_taken_is_an_error() -> None:
    async def scenario(served: Endpoint) -> None:
        with pytest.raises(OSError, match="in use"):
            await Endpoint.start(DISPATCHER, host=HOST, port=served.port, token=TOKEN)

    run(scenario)


def test_empty_token_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        asyncio.run(Endpoint.start(DISPATCHER, host=HOST, port=0, token=""))


# The token


@pytest.mark.parametrize(
    "target",
    [
        f"/?token={quote(TOKEN, safe='')}",
        f"/?token={quote_plus(TOKEN)}",
        f"/?token={quote(TOKEN, safe='+/')}",
        f"/any/path?x=1&token={quote(TOKEN, safe='')}&y",
        f"?%74oken={quote(TOKEN, safe='')}",
        f"/?token={quote(TOKEN, safe='')}&token={quote_plus(TOKEN)}",
    ],
)
def test_token_in_the_query_lets_in(target: str) -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, target) as connection:
            await assert_works(connection)

    run(scenario)


PLAIN_TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_token_in_the_header_lets_in(scheme: str) -> None:
    headers = [("Authorization", "Basic YTpi"), ("Authorization", f"{scheme} {PLAIN_TOKEN}")]

    async def scenario(served: Endpoint) -> None:
        async with client(served, "/", additional_headers=headers) as connection:
            await assert_works(connection)

    run(scenario, token=PLAIN_TOKEN)


RIGHT = f"token={quote(TOKEN, safe='')}"


@pytest.mark.parametrize(
    ("target", "authorization"),
    [
        ("/", None),
        ("/?", None),
        ("/?token", None),
        ("/?token=", None),
        ("/?token=wrong", None),
        (f"/?token={quote(TOKEN[:-1], safe='')}", None),
        (f"/?{RIGHT}x", None),
        (f"/?Token={quote(TOKEN, safe='')}", None),
        (f"/?{RIGHT}&token=wrong", None),
        (f"/?token=wrong&{RIGHT}", None),
        (f"/?{RIGHT}&token", None),
        (f"/?{RIGHT}", "Bearer wrong"),
        (f"/?{RIGHT}", "Bearer"),
        ("/?token=%FF%00%", None),
        ("/", "Bearer wrong"),
        ("/", f"Basic {PLAIN_TOKEN}"),
        ("/", PLAIN_TOKEN),
        ("/", ""),
    ],
)
def test_without_the_right_token_the_handshake_is_refused(target: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    async def scenario(served: Endpoint) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await client(served, target, additional_headers=headers)
        response = refused.value.response
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.body == b"A valid token is required.\n"

    run(scenario)


def test_token_as_a_subprotocol_lets_in_and_is_agreed_on() -> None:
    """A browser takes a connection for failed if none of the subprotocols that it offered is chosen."""

    async def scenario(served: Endpoint) -> None:
        async with client(served, "/", subprotocols=["other", f"bearer.{PLAIN_TOKEN}"]) as connection:
            assert connection.subprotocol == f"bearer.{PLAIN_TOKEN}"
            await assert_works(connection)
        async with client(served, f"/?token={PLAIN_TOKEN}", subprotocols=["other"]) as connection:
            assert connection.subprotocol is None

    run(scenario, token=PLAIN_TOKEN)


@pytest.mark.parametrize("field", ["Host: localhost\r\nOrigin: https://evil.example", "Host: evil.example"])
@pytest.mark.parametrize("is_handshake", [True, False])
def test_other_pages_and_rebound_names_are_refused_with_the_right_token_too(field: str, is_handshake: bool) -> None:
    plain = f"GET /?{RIGHT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    first = (handshake() if is_handshake else plain).replace(b"Host: localhost", field.encode())

    async def scenario(served: Endpoint) -> None:
        async with raw_connection(served, first) as reader:
            assert await reader.readline() == b"HTTP/1.1 403 Forbidden\r\n"

    run(scenario)


def test_page_of_a_listed_origin_comes_in() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, origin="https://app.example") as connection:
            await assert_works(connection)

    run(scenario, access=Access(origins=("https://app.example",)))


def test_many_wrong_tokens_are_answered_slowly_and_the_right_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = handshake(target="/?token=wrong")

    async def scenario(served: Endpoint) -> None:
        for _ in range(FREE_FAILURES):
            async with raw_connection(served, wrong) as reader:
                assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
        monkeypatch.setattr(failures, "PAUSE_SECONDS", 3600)
        async with raw_connection(served, wrong) as reader, client(served) as connection:
            await assert_works(connection)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readline(), 0.05)
        monkeypatch.setattr(failures, "PAUSE_SECONDS", 0.01)
        async with raw_connection(served, wrong) as reader:
            assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"

    run(scenario)


def test_what_is_no_websocket_handshake_needs_the_token_too() -> None:
    async def scenario(served: Endpoint) -> None:
        async with raw_connection(served, b"GET /secret?token=guess HTTP/1.1\r\nHost: localhost\r\n\r\n") as reader:
            response = await reader.read()
        assert response.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"guess" not in response
        assert b"secret" not in response

    run(scenario)


def test_neither_tokens_nor_failed_handshakes_reach_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    garbage = (
        b"\x16\x03\x01",
        b"GET\r\n\r\n",
        handshake("POST"),
        handshake(target="/\xff?token=guess"),
        b"G" * 100_000,
    )

    async def scenario(served: Endpoint) -> None:
        async with client(served, logger=logging.Logger("client")) as connection:  # noqa: LOG001  no part of the log
            await assert_works(connection)
        with pytest.raises(InvalidStatus):
            await client(served, "/?token=guess", logger=logging.Logger("client"))  # noqa: LOG001
        for first in garbage:
            async with raw_connection(served, first) as reader:
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(0.05):
                        await reader.read()

    run(scenario)
    assert {record.name for record in caplog.records} <= {"asyncio"}
    assert "oken" not in caplog.text
    assert "guess" not in caplog.text
    assert capfd.readouterr().err == ""


# Messages


def test_requests_are_answered_in_their_order() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as connection:
            identities = list(range(REQUESTS_PER_TURN * 10))
            for identity in identities:
                await connection.send(request(identity))
            assert [json.loads(await connection.recv())["id"] for _ in identities] == identities

    run(scenario)


def test_notification_has_no_answer() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as connection:
            await connection.send('{"jsonrpc":"2.0","method":"nothing"}')
            await assert_works(connection)

    run(scenario)


def test_malformed_request_does_not_end_the_connection() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as connection:
            for text in ("", "{", "\x00", "[" * 100_000, r'"\ud800"'):
                assert (await answer(connection, text))["error"]["code"] in {-32700, -32600}
            await assert_works(connection)

    run(scenario)


def test_messages_are_not_compressed() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, compression="deflate") as connection:
            assert connection.protocol.extensions == []

    run(scenario)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b"{}"], 1003),
        ([[b"{", b"}"]], 1003),
        (["x" * (MAX_MESSAGE + 1)], 1009),
        (["é" * (MAX_MESSAGE // 2 + 1)], 1009),
        ([["x" * (MAX_MESSAGE // 2)] * 3], 1009),
    ],
)
def test_message_that_is_not_allowed_closes_its_connection_only(messages: list[Any], code: int) -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as bystander, client(served) as connection:
            with contextlib.suppress(ConnectionClosed):  # the server need not wait for a fragmented message's end
                await connection.send(messages[0])
            assert await close_code(connection) == code
            await assert_works(bystander)

    run(scenario)


def test_text_that_is_no_utf_8_closes_the_connection() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as connection:
            await connection.send(b'"\xed\xa0\x80"', text=True)
            assert await close_code(connection) == 1007

    run(scenario)


def test_message_of_the_largest_size_is_answered() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, max_size=None) as connection:
            text = request("")
            identity = "i" * (MAX_MESSAGE - len(text))
            assert (await answer(connection, request(identity)))["id"] == identity

    run(scenario)


# Large answers and slow readers


def test_large_answer_arrives_whole_in_frames_of_bounded_size() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, max_size=None) as connection:
            await connection.send(request(1, "large"))
            frames = [frame async for frame in connection.recv_streaming(decode=True)]
            assert max(map(len, frames)) <= MAX_FRAME
            assert json.loads("".join(frames))["result"] == "é漢😀x" * (LARGE // 4)
            await assert_works(connection)

    run(scenario)


def test_answer_in_pieces_arrives_whole_in_frames_of_one_size() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, max_size=None) as connection:
            await connection.send(request(1, "in_pieces"))
            frames = [frame async for frame in connection.recv_streaming(decode=True)]
            assert {len(frame) for frame in frames[:-2]} == {MAX_FRAME}
            assert len(frames[-2]) <= MAX_FRAME
            assert frames[-1] == ""
            assert json.loads("".join(frames)) == {"jsonrpc": "2.0", "id": 1, "result": "".join(SMALL_AND_LARGE)}
            await assert_works(connection)

    run(scenario)


def test_batch_with_large_answers_arrives_whole() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, max_size=None) as connection:
            methods = ["nothing", "in_pieces", "large", "nothing"]
            await connection.send(f"[{','.join(request(method, method) for method in methods)}]")
            results = {one["id"]: one["result"] for one in json.loads(await connection.recv())}
            assert results["in_pieces"] == "".join(SMALL_AND_LARGE)
            assert len(results["large"]) == LARGE // 4 * 4
            assert list(results) == ["nothing", "in_pieces", "large"]
            await assert_works(connection)

    run(scenario)


def test_large_answer_lets_others_have_their_answers_before_its_end() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, max_size=None) as connection, client(served) as bystander:
            await connection.send(request(1, "in_pieces"))
            large = asyncio.create_task(connection.recv())
            answers = 0
            while not large.done():
                await assert_works(bystander)
                answers += 1
            assert json.loads(large.result())["id"] == 1
            assert answers > 3

    run(scenario)


@pytest.mark.parametrize("method", ["endless", "[endless]"])
def test_client_that_leaves_in_the_middle_of_an_answer_leaves_nothing_behind(method: str) -> None:
    closed = asyncio.Event()

    async def endless(_: NoParams) -> Text:
        async def ones() -> AsyncGenerator[str]:
            try:
                while True:
                    yield "1" * MAX_FRAME
            finally:
                closed.set()

        return ones()

    async def scenario(served: Endpoint) -> None:
        tasks = asyncio.all_tasks()
        text = method.replace("endless", request(1, "endless"))
        async with raw_connection(served, handshake() + text_frame(text)) as reader:
            await reader.readexactly(MAX_FRAME)
            assert not closed.is_set()
        await closed.wait()
        while asyncio.all_tasks() > tasks:  # noqa: ASYNC110  tasks tell nobody of their end
            await asyncio.sleep(0.01)

    run(scenario, Dispatcher([Method("endless", NoParams, endless)]))


def test_answer_that_fails_in_the_middle_closes_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: NoParams) -> Text:
        async def ones() -> AsyncGenerator[str]:
            yield "1" * 2 * MAX_FRAME
            raise OSError("secret")

        return ones()

    async def scenario(served: Endpoint) -> None:
        async with client(served, max_size=None) as connection, client(served) as bystander:
            await connection.send(request(1, "broken"))
            assert await close_code(connection) == 1011
            assert (await answer(bystander, request(1)))["error"]["code"] == -32601

    run(scenario, Dispatcher([Method("broken", NoParams, broken)]))
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["rpc.endpoint"]


def test_answer_of_one_frame_is_not_fragmented() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served, max_size=None) as connection:
            await connection.send(request("i" * (MAX_FRAME // 2)))
            assert len([frame async for frame in connection.recv_streaming()]) == 1

    run(scenario)


def test_client_that_does_not_read_holds_up_nobody() -> None:
    async def scenario(served: Endpoint) -> None:
        first = handshake() + text_frame(request(1, "large"))
        async with raw_connection(served, first) as reader, client(served) as bystander:
            assert await reader.read(12) == b"HTTP/1.1 101"
            for _ in range(20):
                await assert_works(bystander)

    run(scenario)


def test_client_that_pipelines_lets_others_have_their_turn() -> None:
    """Requests that have come already are answered without a wait, so turns must be given."""
    requests = REQUESTS_PER_TURN * 20
    order: list[str] = []

    def note(_: NoParams) -> str:
        order.append("answer")
        return "null"

    async def scenario(served: Endpoint) -> None:
        async with raw_connection(served, handshake() + text_frame(request(1)) * requests) as reader:
            while order.count("answer") < requests:
                order.append("turn")
                await asyncio.sleep(0)
            await reader.read(12)

    run(scenario, Dispatcher([Method("nothing", NoParams, note)]))
    runs = " ".join(order).split("turn")
    assert max(run.count("answer") for run in runs) <= REQUESTS_PER_TURN


def test_client_that_answers_no_ping_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pong comes behind all that a slow reader has yet to read, so a late one says nothing."""
    monkeypatch.setattr(endpoint, "PING_INTERVAL", 0.01)
    ping = b"\x89\x04"

    async def scenario(served: Endpoint) -> None:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(5):
            assert (await reader.readexactly(6)).startswith(ping)
        writer.write(text_frame(request(1)))
        await reader.readuntil(b'"result":null}')
        writer.transport.abort()

    assert endpoint.PING_TIMEOUT is None
    run(scenario)


# The end


def test_close_says_going_away_and_stops_listening() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as one, client(served) as other:
            await assert_works(one)
            await served.close()
            assert await close_code(one) == await close_code(other) == 1001
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection(HOST, served.port)

    run(scenario)


def test_close_may_be_repeated_also_at_the_same_time() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served):
            await asyncio.gather(served.close(), served.close())
        await served.close()

    run(scenario)


STUCK = {
    "handshake that never comes": b"",
    "answer that is not read": handshake() + text_frame(request(1, "large")),
    "answer in pieces that is not read": handshake() + text_frame(request(1, "in_pieces")),
    "closing handshake that is not answered": handshake(),
    "method that does not return": handshake() + text_frame(request(1, "hang")),
}


@pytest.mark.parametrize("first", STUCK.values(), ids=STUCK)
def test_close_cuts_off_what_does_not_end_in_time(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr(endpoint, "ABORT_TIMEOUT", 0.2)

    async def scenario(served: Endpoint) -> None:
        async with raw_connection(served, first) as reader:
            if first:
                await reader.read(12)
            await asyncio.sleep(0.05)
            await served.close()
            assert await read_to_the_end(reader) < LARGE

    run(scenario)


def test_port_is_free_again_after_close() -> None:
    async def scenario(served: Endpoint) -> None:
        async with client(served) as connection:
            await assert_works(connection)
            await served.close()
        again = await Endpoint.start(DISPATCHER, host=HOST, port=served.port, token=TOKEN)
        await again.close()

    run(scenario)


def test_fault_of_the_dispatcher_is_logged_and_closes_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Dispatcher):
        async def answer(self, text: str, caller: object = None) -> str | None:  # noqa: ARG002
            raise OSError(text)

    async def scenario(served: Endpoint) -> None:
        async with client(served) as connection:
            await connection.send("x")
            assert await close_code(connection) == 1011

    run(scenario, Broken([]))
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["rpc.endpoint"]
