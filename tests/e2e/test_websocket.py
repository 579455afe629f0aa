"""WebSockets through the proxy: every message and control frame as it crossed the wire."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import h2.events
import psutil
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, RemoteSettingsChanged
from h2.settings import SettingCodes
from websockets.sync.client import connect

from tests.peers.api import Api, Entry, eventually
from tests.peers.clients import trust, websocket
from tests.peers.listener import HOST
from tests.peers.origin import Origin, Request, answer
from tests.peers.proxy import LISTENING, Proxy, recording, running
from tests.peers.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    accept,
    close_payload,
    echo_server,
    frame,
    raw_client,
)

NO_TLS = {"connectionId": None, "tlsVersion": None, "cipherSuite": None, "ja3": None, "ja4": None}

type Message = tuple[str, Any]


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with echo_server() as port:
        yield port


def text(side: str, said: str) -> Message:
    return side, {"type": "text", "text": said}


def binary(side: str, data: bytes, kind: str = "binary") -> Message:
    return side, {"type": kind, "data": base64.b64encode(data).decode()}


def close(side: str, code: int, reason: str = "") -> Message:
    return side, {"type": "close", "code": code, "reason": reason}


def said(messages: list[dict[str, Any]] | None) -> list[Message]:
    """Return who has said what; the times are checked for their order alone."""
    assert messages is not None
    for message in messages:
        assert message["endedAt"] is not None
        assert message["startedAt"] is None or message["startedAt"] <= message["endedAt"]
    for side in ("client", "server"):
        ends = [message["endedAt"] for message in messages if message["side"] == side]
        assert ends == sorted(ends)
    return [(message["side"], message["payload"]) for message in messages]


def conversation(proxy: Proxy, path: str, *expected: Message) -> list[dict[str, Any]]:
    """Wait until exactly this has been said on a WebSocket, and return it with its times."""
    entry = proxy.api.wait_for(path, lambda entry: entry["isWebSocket"])
    messages = eventually(lambda: proxy.api.messages(entry), lambda messages: said(messages) == list(expected))
    assert messages is not None
    return messages


def instant(time_of_day: str) -> float:
    return datetime.fromisoformat(time_of_day).timestamp()


def floored(seconds: float) -> float:
    """Return an instant as a message's time shows it: whole milliseconds."""
    return int(seconds * 1000) / 1000


# Plain conversations


def test_a_conversation_is_recorded_whole_while_it_goes_on_and_after(proxy: Proxy, echo_port: int) -> None:
    url = f"ws://{HOST}:{echo_port}/whole"
    begin = floored(time.time())
    with websocket(proxy, url, compression=None, user_agent_header=None) as client:
        client.send("Grüße")
        assert client.recv() == "Grüße"
        client.send(b"\x00\xff")
        assert client.recv() == b"\x00\xff"
        so_far = [text("client", "Grüße"), text("server", "Grüße")]
        so_far += [binary("client", b"\x00\xff"), binary("server", b"\x00\xff")]
        conversation(proxy, "/whole", *so_far)
        port = client.local_address[1]
        client.close(4000, "bye")
    messages = conversation(proxy, "/whole", *so_far, close("client", 4000, "bye"))
    for message in messages:
        assert begin <= instant(message["startedAt"]) <= instant(message["endedAt"]) <= time.time()
    entry = proxy.api.wait_for("/whole", lambda entry: entry["process"])
    headers = entry["request"]["headers"]
    assert [name for name, _ in headers] == [
        "Host",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
    ]
    assert ["Upgrade", "websocket"] in entry["response"].pop("headers")
    assert isinstance(entry["timings"].pop("startedAt"), str)
    assert {phase for phase, spent in entry.pop("timings").items() if spent is None} == {"dns", "ssl"}
    assert entry.pop("process")["pid"] == psutil.Process().pid
    assert entry == {
        "id": entry["id"],
        "url": f"http://{HOST}:{echo_port}/whole",
        "clientAddr": {"ip": HOST, "port": port},
        "remoteAddr": {"ip": HOST, "port": echo_port},
        "httpVersion": "HTTP/1.1",
        "transactionType": "request",
        "request": {
            "method": "GET",
            "path": "/whole",
            "httpVersion": "HTTP/1.1",
            "headers": headers,
            "bodySize": 0,
        },
        "response": {
            "httpVersion": "HTTP/1.1",
            "statusCode": 101,
            "statusText": "Switching Protocols",
            "bodySize": 0,
        },
        "isWebSocket": True,
        "tls": NO_TLS,
        "http2": None,
    }
    assert proxy.api.body("request", entry) == ""
    assert proxy.api.body("response", entry) == ""


def test_a_conversation_over_tls_is_recorded_like_any(proxy: Proxy, h2_port: int) -> None:
    with websocket(proxy, f"wss://localhost:{h2_port}/secure") as client:
        client.send("secret")
        assert client.recv() == "secret"
    conversation(proxy, "/secure", text("client", "secret"), text("server", "secret"), close("client", 1000))
    entry = proxy.api.wait_for("/secure")
    assert entry["url"] == f"https://localhost:{h2_port}/secure"
    assert entry["tls"]["tlsVersion"] == {"value": 0x0304, "name": "TLS 1.3"}
    assert entry["httpVersion"] == "HTTP/1.1"
    assert entry["response"]["statusCode"] == 101
    assert entry["timings"]["receive"] is not None


def test_the_response_s_timings_end_with_the_handshake(proxy: Proxy, echo_port: int) -> None:
    with websocket(proxy, f"ws://{HOST}:{echo_port}/timed"):
        entry = proxy.api.wait_for("/timed", lambda entry: entry["isWebSocket"])
        open_timings = entry["timings"]
        assert None not in [open_timings[phase] for phase in ("blocked", "connect", "send", "wait", "receive")]
    conversation(proxy, "/timed", close("client", 1000))
    assert proxy.api.get(entry["id"])["timings"] == open_timings


def test_a_websocket_that_says_nothing_has_no_messages(proxy: Proxy, echo_port: int) -> None:
    with websocket(proxy, f"ws://{HOST}:{echo_port}/silent"):
        conversation(proxy, "/silent")


def test_compressed_messages_are_recorded_as_they_read(proxy: Proxy, echo_port: int) -> None:
    with websocket(proxy, f"ws://{HOST}:{echo_port}/deflated", compression="deflate") as client:
        for _ in range(2):
            client.send("again and again " * 50)
            client.recv()
        client.send(iter(["a" * 1000, "b" * 1000]))
        client.recv()
    again = "again and again " * 50
    fragmented = "a" * 1000 + "b" * 1000
    expected = [text(side, words) for words in (again, again, fragmented) for side in ("client", "server")]
    conversation(proxy, "/deflated", *expected, close("client", 1000))
    entry = proxy.api.wait_for("/deflated")
    extensions = [value for name, value in entry["response"]["headers"] if name == "Sec-WebSocket-Extensions"]
    assert extensions[0].startswith("permessage-deflate")


def test_empty_messages_are_messages(proxy: Proxy, echo_port: int) -> None:
    with websocket(proxy, f"ws://{HOST}:{echo_port}/empty", compression=None) as client:
        client.send("")
        client.recv()
        client.send(b"")
        client.recv()
    expected = [text("client", ""), text("server", ""), binary("client", b""), binary("server", b"")]
    conversation(proxy, "/empty", *expected, close("client", 1000))


def test_a_refused_handshake_is_an_ordinary_entry(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/refused-handshake"] = answer(b"no", "Content-Type: text/plain", status="403 Forbidden")
    with pytest.raises(AssertionError, match="403"), raw_client(proxy, plain_origin.url("/refused-handshake")):
        pass
    entry = proxy.api.wait_for("/refused-handshake")
    assert not entry["isWebSocket"]
    assert entry["response"]["statusCode"] == 403
    assert proxy.api.body("response", entry) == "no"
    assert proxy.api.messages(entry) is None


# Frames


@contextmanager
def raw(proxy: Proxy, origin: Origin, path: str, *first: bytes) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a WebSocket, which send what the test says: the client's and the server's."""
    accepted: list[socket.socket] = []
    is_accepted, is_over = threading.Event(), threading.Event()

    def serve(connection: socket.socket, request: Request) -> None:
        accepted.append(connection)
        accept(connection, request, *first)
        is_accepted.set()
        is_over.wait()

    origin.answers[path] = serve
    try:
        with raw_client(proxy, origin.url(path)) as client:
            assert is_accepted.wait(60)
            yield client, accepted[0]
    finally:
        is_over.set()


def test_a_fragmented_message_lasts_from_its_first_frame_to_its_last(proxy: Proxy, plain_origin: Origin) -> None:
    with raw(proxy, plain_origin, "/fragmented") as (client, server):
        client.sendall(frame(TEXT, b"Gr", fin=False, masked=True))
        client.sendall(frame(CONTINUATION, "ü".encode()[:1], fin=False, masked=True))
        client.sendall(frame(PING, b"between", masked=True))
        conversation(proxy, "/fragmented", binary("client", b"between", "ping"))
        seen = time.time()
        server.sendall(frame(BINARY, b"answer"))
        conversation(proxy, "/fragmented", binary("client", b"between", "ping"), binary("server", b"answer"))
        client.sendall(frame(CONTINUATION, b"", fin=False, masked=True))
        client.sendall(frame(CONTINUATION, "ü".encode()[1:] + b"\xc3\x9f", masked=True))
        ping, answered, message = conversation(
            proxy,
            "/fragmented",
            binary("client", b"between", "ping"),
            binary("server", b"answer"),
            text("client", "Grüß"),
        )
    assert instant(message["startedAt"]) <= seen
    assert instant(message["endedAt"]) >= floored(seen)
    assert instant(ping["startedAt"]) <= seen
    assert instant(answered["startedAt"]) >= floored(seen)


def test_a_frame_starts_with_its_first_byte(proxy: Proxy, plain_origin: Origin) -> None:
    whole = frame(PING, b"slow", masked=True), frame(BINARY, b"slow", masked=True)
    with raw(proxy, plain_origin, "/trickle") as (client, server):
        expected: list[Message] = []
        for number, sent in enumerate(whole):
            client.sendall(sent[:3])
            server.sendall(frame(PONG, bytes([number])))
            expected.append(binary("server", bytes([number]), "pong"))
            seen = instant(conversation(proxy, "/trickle", *expected)[-1]["endedAt"])
            time.sleep(0.02)
            client.sendall(sent[3:])
            expected.append(binary("client", b"slow", "ping" if number == 0 else "binary"))
            message = conversation(proxy, "/trickle", *expected)[-1]
            assert instant(message["endedAt"]) > seen
            assert message["startedAt"] < message["endedAt"]


def test_control_frames_are_recorded_in_order_from_either_side(proxy: Proxy, plain_origin: Origin) -> None:
    with raw(proxy, plain_origin, "/control") as (client, server):
        client.sendall(
            frame(PING, b"", masked=True) + frame(PONG, b"unasked", masked=True) + frame(TEXT, b"1", masked=True)
        )
        expected = [binary("client", b"", "ping"), binary("client", b"unasked", "pong"), text("client", "1")]
        conversation(proxy, "/control", *expected)
        server.sendall(frame(TEXT, b"2") + frame(PONG, b"\xff" * 125) + frame(PING, b"are you there?"))
        expected += [text("server", "2"), binary("server", b"\xff" * 125, "pong")]
        expected += [binary("server", b"are you there?", "ping")]
        conversation(proxy, "/control", *expected)


def test_frames_that_come_with_the_handshake_s_response_are_recorded(proxy: Proxy, plain_origin: Origin) -> None:
    with raw(proxy, plain_origin, "/eager", frame(TEXT, b"hello"), frame(PING, b"now")):
        (hello, ping) = conversation(proxy, "/eager", text("server", "hello"), binary("server", b"now", "ping"))
    assert hello["startedAt"] is not None
    assert ping["startedAt"] is not None


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", 1005, ""),
        (close_payload(1001, "für immer"), 1001, "für immer"),
        (close_payload(4999), 4999, ""),
        (close_payload(999, "not allowed"), 999, "not allowed"),
        (close_payload(1006), 1006, ""),
        (close_payload(65535, "neither"), 65535, "neither"),
        (close_payload(1000) + b"no \xff", 1000, "no ÿ"),
    ],
)
def test_a_close_has_code_and_reason_as_they_were_sent(
    proxy: Proxy, plain_origin: Origin, side: str, payload: bytes, code: int, reason: str
) -> None:
    path = f"/close-{side}-{code}-{len(payload)}"
    with raw(proxy, plain_origin, path) as (client, server):
        if side == "client":
            client.sendall(frame(CLOSE, payload, masked=True))
        else:
            server.sendall(frame(CLOSE, payload))
        (closed,) = conversation(proxy, path, close(side, code, reason))
    assert closed["startedAt"] is not None


def test_what_comes_after_a_close_is_not_read(proxy: Proxy, plain_origin: Origin) -> None:
    with raw(proxy, plain_origin, "/after") as (client, _):
        client.sendall(frame(CLOSE, close_payload(1000), masked=True) + frame(TEXT, b"late", masked=True))
        while client.recv(4096):
            pass
        conversation(proxy, "/after", close("client", 1000))


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("resets", [True, False])
def test_a_side_that_vanishes_has_closed_with_1006(
    proxy: Proxy, plain_origin: Origin, side: str, *, resets: bool
) -> None:
    path = f"/vanished-{side}-{resets}"
    with raw(proxy, plain_origin, path) as (client, server):
        server.sendall(frame(TEXT, b"hello"))
        conversation(proxy, path, text("server", "hello"))
        gone = client if side == "client" else server
        if resets:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            gone.shutdown(socket.SHUT_RDWR)
        gone.close()
        _, closed = conversation(proxy, path, text("server", "hello"), close(side, 1006))
    assert closed["startedAt"] is None


def test_a_message_that_is_never_completed_is_none(proxy: Proxy, plain_origin: Origin) -> None:
    with raw(proxy, plain_origin, "/incomplete") as (client, _):
        client.sendall(frame(TEXT, b"never", fin=False, masked=True) + frame(PING, b"x", masked=True))
        conversation(proxy, "/incomplete", binary("client", b"x", "ping"))
        client.close()
        conversation(proxy, "/incomplete", binary("client", b"x", "ping"), close("client", 1006))


@pytest.mark.parametrize("opcode", [0x3, 0x7, 0xB, 0xF])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_frame_of_a_reserved_opcode_is_unknown_and_ends_the_websocket(
    proxy: Proxy, plain_origin: Origin, side: str, opcode: int
) -> None:
    path = f"/reserved-{side}-{opcode}"
    payload = bytes(range(200))
    with raw(proxy, plain_origin, path) as (client, server):
        sender = client if side == "client" else server
        sender.sendall(frame(opcode, payload, masked=side == "client"))
        unknown, closed = conversation(
            proxy, path, binary(side, payload, "unknown"), close(side, 1002, f"Invalid opcode {opcode:#x}")
        )
    assert unknown["startedAt"] is not None
    assert closed["startedAt"] is None


REFUSED = {
    "invalid-utf-8": (frame(TEXT, b"\xff\xfe", masked=True), 1007),
    "unmasked": (frame(TEXT, b"plain"), 1002),
    "no-beginning": (frame(CONTINUATION, b"?", masked=True), 1002),
    "fragmented-ping": (frame(PING, b"?", fin=False, masked=True), 1002),
    "long-ping": (frame(PING, b"?" * 126, masked=True), 1002),
    "reserved-bit": (frame(TEXT | 0x40, b"?", masked=True), 1002),
    "half-a-code": (frame(CLOSE, b"\x03", masked=True), 1002),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_frame_that_breaks_a_rule_ends_the_websocket(proxy: Proxy, plain_origin: Origin, case: str) -> None:
    sent, code = REFUSED[case]
    with raw(proxy, plain_origin, f"/{case}") as (client, server):
        client.sendall(sent)
        received = b""
        while data := server.recv(4096):
            received += data
    entry = proxy.api.wait_for(f"/{case}", lambda entry: entry["isWebSocket"])
    (closed,) = eventually(lambda: proxy.api.messages(entry), bool) or []
    assert closed["side"] == "client"
    assert closed["startedAt"] is None
    assert closed["payload"]["code"] == code
    assert closed["payload"]["reason"] != ""
    assert received[0] == 0x80 | CLOSE


# Much


LARGE: dict[str, str | bytes] = {"text": "zwölf Zeichen" * 4_600_000, "binary": bytes(range(250)) * 256_000}


@pytest.mark.parametrize("kind", LARGE)
def test_a_message_of_64_mb_is_recorded_whole(proxy: Proxy, echo_port: int, kind: str) -> None:
    sent = LARGE[kind]
    with websocket(proxy, f"ws://{HOST}:{echo_port}/large-{kind}", compression=None, ping_interval=None) as client:
        client.send(sent)
        assert client.recv() == sent
    expected = [text(side, sent) if isinstance(sent, str) else binary(side, sent) for side in ("client", "server")]
    entry = proxy.api.wait_for(f"/large-{kind}", lambda entry: entry["isWebSocket"])
    messages = eventually(lambda: proxy.api.messages(entry), lambda messages: len(messages or ()) == 3)
    assert said(messages) == [*expected, close("client", 1000)]


MANY = 100_000
FEWER = 20_000


class Flood(NamedTuple):
    """A WebSocket that has carried `MANY` messages, and the memory of both processes after `FEWER` and at the end."""

    proxy: Proxy
    entry: Entry
    memory: list[tuple[int, ...]]


@pytest.fixture(scope="module")
def flood(confdir: Path, plain_origin: Origin) -> Iterator[Flood]:
    with recording(confdir, "--set", "entries_trim_websocket=true", "--set", "flow_detail=0") as proxy:
        processes = [psutil.Process(proxy.mitmdump.process.pid), *proxy.mitmdump.children()]
        memory = []
        with raw(proxy, plain_origin, "/flood") as (client, server):
            for first, end in ((0, FEWER), (FEWER, MANY)):
                sent = b"".join(frame(TEXT, b"%d" % number) for number in range(first, end))
                threading.Thread(target=server.sendall, args=(sent,)).start()
                left = len(sent)
                while left:
                    left -= len(client.recv(65536))
                memory.append(tuple(process.memory_info().rss for process in processes))
            (entry,) = proxy.api.wait(lambda entry: entry["isWebSocket"])
            yield Flood(proxy, entry, memory)


def test_a_hundred_thousand_messages_are_all_recorded(flood: Flood) -> None:
    seen = eventually(lambda: flood.proxy.api.messages(flood.entry), lambda seen: len(seen or ()) >= MANY)
    messages = said(seen)
    assert len(messages) == MANY
    for number, message in enumerate(messages):
        assert message == text("server", str(number))


def test_a_hundred_thousand_messages_take_no_memory_in_either_process(flood: Flood) -> None:
    for before, after in zip(*flood.memory, strict=True):
        assert after - before < 8 * 2**20  # of 80,000 messages, less than 100 bytes each would be


def test_others_are_answered_while_a_hundred_thousand_messages_are(flood: Flood) -> None:
    session = flood.proxy.api.session()
    done = threading.Event()

    def ask() -> None:
        with Api(flood.proxy.url) as api:
            api.call("sessions/get_websocket_messages", sessionId=session, entryId=flood.entry["id"])
        done.set()

    asking = threading.Thread(target=ask)
    asking.start()
    answered = 0
    while not done.is_set():
        flood.proxy.api.session()
        answered += 1
    asking.join()
    assert answered > 10


# Other addons

MEDDLING = """
from mitmproxy import ctx

def websocket_message(flow):
    message = flow.websocket.messages[-1]
    if message.content == b"change":
        message.content = b"changed"
    elif message.content.startswith(b"drop"):
        message.drop()
    elif message.content == b"edit injected":
        message.content = b"edited"
    elif message.content.startswith(b"inject "):
        for word in message.content.split()[1:]:
            ctx.master.commands.call("inject.websocket", flow, True, word, word != b"binary")
    elif message.content == b"edit":
        message.content = b"edited"
"""
"""What a script does to what is said."""


@contextmanager
def recording_meddled(confdir: Path, folder: Path, *arguments: str) -> Iterator[Proxy]:
    """Run a proxy with a script that meddles with messages."""
    script = folder / "meddling.py"
    script.write_text(MEDDLING)
    with recording(confdir, "-s", str(script), *arguments) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def meddled(confdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with recording_meddled(confdir, tmp_path_factory.mktemp("meddled")) as proxy:
        yield proxy


def test_messages_that_an_addon_changes_or_drops_are_recorded_as_they_came(meddled: Proxy, echo_port: int) -> None:
    with websocket(meddled, f"ws://{HOST}:{echo_port}/changed", compression=None) as client:
        client.send("change")
        assert client.recv() == "changed"
        client.send("drop me")
        client.send("after")
        assert client.recv() == "after"
    expected = [text("client", "change"), text("server", "changed"), text("client", "drop me")]
    expected += [text("client", "after"), text("server", "after"), close("client", 1000)]
    conversation(meddled, "/changed", *expected)


def test_injected_messages_are_recorded_as_they_are_sent(meddled: Proxy, plain_origin: Origin) -> None:
    begin = floored(time.time())
    with raw(meddled, plain_origin, "/injected") as (client, _):
        client.sendall(frame(TEXT, b"inject one edit drop-it binary", masked=True))
        expected = [text("client", "inject one edit drop-it binary"), text("server", "one")]
        expected += [text("server", "edited"), binary("server", b"binary")]
        messages = conversation(meddled, "/injected", *expected)
        sent = frame(TEXT, b"one") + frame(TEXT, b"edited") + frame(BINARY, b"binary")
        received = b""
        while len(received) < len(sent):
            received += client.recv(4096)
        assert received == sent
    for message in messages[1:]:
        assert begin <= instant(message["startedAt"]) == instant(message["endedAt"])


# Saved captures


def test_a_capture_gives_the_same_messages_again(confdir: Path, tmp_path: Path, plain_origin: Origin) -> None:
    capture = str(tmp_path / "capture.flow")
    with recording_meddled(confdir, tmp_path, "-w", capture) as proxy:
        with raw(proxy, plain_origin, "/saved", frame(PING, b"first")) as (client, server):
            client.sendall(frame(TEXT, b"chan", fin=False, masked=True) + frame(PONG, b"between", masked=True))
            client.sendall(frame(CONTINUATION, b"ge", masked=True) + frame(TEXT, b"drop this", masked=True))
            client.sendall(frame(BINARY, b"\xff" * 300_000, masked=True) + frame(TEXT, b"", masked=True))
            client.sendall(frame(TEXT, b"inject drop-it in", masked=True))
            expected = [binary("server", b"first", "ping"), binary("client", b"between", "pong")]
            expected += [text("client", "change"), text("client", "drop this"), binary("client", b"\xff" * 300_000)]
            expected += [text("client", ""), text("client", "inject drop-it in"), text("server", "in")]
            conversation(proxy, "/saved", *expected)
            server.sendall(frame(0x5, b"odd"))
            expected += [binary("server", b"odd", "unknown"), close("server", 1002, "Invalid opcode 0x5")]
            conversation(proxy, "/saved", *expected)
        with raw(proxy, plain_origin, "/saved-open") as (client, _):
            client.sendall(frame(PING, b"open", masked=True) + frame(TEXT, b"open", masked=True))
            conversation(proxy, "/saved-open", binary("client", b"open", "ping"), text("client", "open"))
            entries = proxy.api.wait(lambda entry: entry["process"], count=2)
            live = [(entry, proxy.api.messages(entry)) for entry in entries]
            proxy.mitmdump.stop()
    with recording(confdir, "-n", "-r", capture, "--set", "keepserving=true", listens=False) as again:
        entries = again.api.wait(lambda _: True, count=2)
        assert [entry for entry, _ in live] == entries
        for entry, messages in live:
            replayed = eventually(lambda: again.api.messages(entry), bool)  # noqa: B023 - it is called at once
            assert replayed == messages


def test_a_capture_made_without_the_addon_gives_what_mitmproxy_kept(
    confdir: Path, tmp_path: Path, echo_port: int
) -> None:
    capture = tmp_path / "plain.flow"
    without = ("--set", f"confdir={confdir}", "--listen-host", HOST, "--listen-port", "0", "-w", str(capture))
    with running(*without) as mitmdump:
        port = int(mitmdump.wait_for_line(LISTENING))
        with connect(f"ws://{HOST}:{echo_port}/plain", proxy=f"http://{HOST}:{port}", compression=None) as client:
            client.send("kept")
            client.recv()
            client.ping().wait(60)
            client.send(b"too")
            client.recv()
            client.close(4001, "done")
    with recording(confdir, "-n", "-r", str(capture), "--set", "keepserving=true", listens=False) as proxy:
        expected = [text("client", "kept"), text("server", "kept"), binary("client", b"too"), binary("server", b"too")]
        messages = conversation(proxy, "/plain", *expected, close("client", 4001, "done"))
    assert {message["startedAt"] for message in messages} == {None}


# HTTP/2


@contextmanager
def http2_client(proxy: Proxy, port: int) -> Iterator[tuple[ssl.SSLSocket, H2Connection]]:
    """Connect to a server through the proxy, and begin HTTP/2; what the client sends is not held to any rule."""
    context = trust(proxy)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((HOST, proxy.port), timeout=60) as tcp:
        tcp.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in tcp.recv(4096)
        with context.wrap_socket(tcp, server_hostname="localhost") as client:
            connection = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
            connection.initiate_connection()
            client.sendall(connection.data_to_send())
            yield client, connection


def wait_for[Event: h2.events.Event](client: ssl.SSLSocket, connection: H2Connection, kind: type[Event]) -> Event:
    while True:
        for event in connection.receive_data(client.recv(65536)):
            if isinstance(event, kind):
                return event


def test_websockets_are_not_offered_over_http_2(proxy: Proxy, h2_port: int) -> None:
    """Unless SETTINGS_ENABLE_CONNECT_PROTOCOL is 1, clients use HTTP/1.1 for WebSockets (RFC 8441 section 3)."""
    with http2_client(proxy, h2_port) as (client, connection):
        settings = wait_for(client, connection, RemoteSettingsChanged)
        assert settings.changed_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL].new_value == 0


def test_an_extended_connect_is_refused(proxy: Proxy, h2_port: int) -> None:
    with http2_client(proxy, h2_port) as (client, connection):
        fields = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": "/extended"}
        connection.send_headers(1, [*fields.items(), (":authority", f"localhost:{h2_port}")])
        client.sendall(connection.data_to_send())
        assert wait_for(client, connection, ConnectionTerminated).error_code == ErrorCodes.PROTOCOL_ERROR
    assert not [entry for entry in proxy.api.entries() if entry["url"].endswith("/extended")]
