"""Bodies in motion: while they arrive, streamed by mitmproxy or by another addon, and event streams."""

from __future__ import annotations

import base64
import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import brotli
import psutil
import pytest

from tests.peers.api import Api, Entry, eventually
from tests.peers.clients import curl
from tests.peers.listener import HOST
from tests.peers.origin import Origin, Request, answer
from tests.peers.proxy import Proxy, recording

PIECE = 256 * 1024
STREAMED_SIZE = 200 * 1024 * 1024
MEMORY = 300 * 1024 * 1024

TRANSFORM = """
def responseheaders(flow):
    if "transformed" in flow.request.path:
        flow.response.stream = lambda data: data.upper() if data else [b"the ", b"end"]

def requestheaders(flow):
    if "transformed" in flow.request.path:
        flow.request.stream = lambda data: data.upper()

def response(flow):
    if "rewritten" in flow.request.path:
        flow.response.content = b"another body"
"""


class Slow:
    """An answer that is sent piece by piece, each when the test says so."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._connection: socket.socket | None = None
        self._begun = threading.Event()
        self._ended = threading.Event()

    def __call__(self, connection: socket.socket, _: Request) -> None:
        connection.sendall(self._head)
        self._connection = connection
        self._begun.set()
        self._ended.wait(60)

    def send(self, data: bytes) -> None:
        self._begun.wait(60)
        assert self._connection is not None
        self._connection.sendall(data)

    def end(self) -> None:
        self._ended.set()


@pytest.fixture(scope="module")
def streaming(confdir: Path, trusting: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that streams bodies over 64 KiB, beside an addon that transforms some."""
    script = tmp_path_factory.mktemp("script") / "transform.py"
    script.write_text(TRANSFORM)
    with recording(confdir, *trusting, "-s", str(script), "--set", "stream_large_bodies=64k") as running:
        yield running


def in_background(proxy: Proxy, *arguments: str) -> threading.Thread:
    thread = threading.Thread(target=lambda: curl(proxy, *arguments, check=False), daemon=True)
    thread.start()
    return thread


def response_body(api: Api, entry: Entry, text: str) -> None:
    """Wait until what can be read of the response is this."""
    eventually(lambda: api.body("response", entry), lambda body: body == text)


def is_ended(entry: Entry) -> bool:
    return entry["timings"]["receive"] is not None


# While they arrive


@pytest.mark.parametrize("coding", [None, "gzip", "br"])
def test_what_has_arrived_of_a_response_can_be_read(proxy: Proxy, plain_origin: Origin, coding: str | None) -> None:
    encode = {None: bytes, "gzip": gzip.compress, "br": brotli.compress}[coding]
    text = "".join(f"line {number}\n" for number in range(100_000))
    body = encode(text.encode())
    path = f"/arriving-{coding}"
    fields = f"Content-Encoding: {coding}\r\n" if coding else ""
    slow = Slow(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode())
    plain_origin.answers[path] = slow
    client = in_background(proxy, plain_origin.url(path))
    slow.send(body[: len(body) // 2])
    entry = proxy.api.wait_for(path, lambda entry: entry["response"])
    assert entry["response"]["bodySize"] is None
    prefix = eventually(lambda: proxy.api.body("response", entry), lambda found: len(found or "") > len(text) // 4)
    assert prefix is not None
    assert text.startswith(prefix)
    slow.send(body[len(body) // 2 :])
    slow.end()
    client.join()
    entry = proxy.api.wait_for(path)
    assert entry["response"]["bodySize"] == len(body)
    assert proxy.api.body("response", entry) == text


def test_what_has_arrived_of_a_request_can_be_read(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/uploading"] = answer(b"")
    with socket.create_connection((HOST, proxy.port)) as client:
        head = f"POST {plain_origin.url('/uploading')} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"
        client.sendall(head.encode() + b"abc")
        entry = proxy.api.wait_for("/uploading", lambda _: True)
        eventually(lambda: proxy.api.body("request", entry), lambda body: body == "abc")
        client.sendall(b"def")
        client.recv(4096)
    entry = proxy.api.wait_for("/uploading")
    assert entry["request"]["bodySize"] == 6
    assert proxy.api.body("request", entry) == "abcdef"


def test_a_body_that_another_addon_replaces_is_recorded_as_it_went_out(streaming: Proxy, plain_origin: Origin) -> None:
    slow = Slow(b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n")
    plain_origin.answers["/rewritten"] = slow
    client = in_background(streaming, plain_origin.url("/rewritten"))
    slow.send(b"what the server")
    entry = streaming.api.wait_for("/rewritten", lambda entry: entry["response"])
    response_body(streaming.api, entry, "what the server")
    slow.send(b" sends here")
    slow.end()
    client.join()
    entry = streaming.api.wait_for("/rewritten")
    assert entry["response"]["bodySize"] == len(b"another body")
    assert streaming.api.body("response", entry) == "another body"


# Streamed


def test_a_streamed_body_can_be_read_as_it_passes_and_is_recorded_in_full(
    streaming: Proxy, plain_origin: Origin
) -> None:
    body = bytes(range(256)) * 4096
    slow = Slow(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    plain_origin.answers["/streamed"] = slow
    client = in_background(streaming, plain_origin.url("/streamed"))
    slow.send(body[:PIECE])
    entry = streaming.api.wait_for("/streamed", lambda entry: entry["response"])
    expected = base64.b64encode(body[:PIECE]).decode()
    eventually(lambda: streaming.api.body("response", entry, "base64"), lambda found: found == expected)
    assert streaming.api.get(entry["id"])["response"]["bodySize"] is None
    slow.send(body[PIECE:])
    slow.end()
    client.join()
    entry = streaming.api.wait_for("/streamed")
    assert entry["response"]["bodySize"] == len(body)
    assert streaming.api.body("response", entry, "base64") == base64.b64encode(body).decode()


def test_a_body_that_is_streamed_once_it_has_grown_large_is_recorded_in_full(
    streaming: Proxy, plain_origin: Origin
) -> None:
    body = b"0123456789abcdef" * 20_000
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body) // 4, body[i::4]) for i in range(4))
    plain_origin.answers["/grown"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    curl(streaming, plain_origin.url("/grown"))
    entry = streaming.api.wait_for("/grown")
    expected = b"".join(body[i::4] for i in range(4))
    assert entry["response"]["bodySize"] == len(body)
    assert streaming.api.body("response", entry) == expected.decode()


def test_a_streamed_upload_is_recorded_in_full(streaming: Proxy, plain_origin: Origin, tmp_path: Path) -> None:
    plain_origin.answers["/upload"] = answer(b"ok")
    sent = tmp_path / "sent"
    sent.write_bytes(bytes(range(256)) * 4096)
    curl(streaming, plain_origin.url("/upload"), "--data-binary", f"@{sent}", "-H", "Expect:")
    entry = streaming.api.wait_for("/upload")
    assert entry["request"]["bodySize"] == sent.stat().st_size
    out = streaming.api.body("request", entry, "base64")
    assert out == base64.b64encode(sent.read_bytes()).decode()
    assert plain_origin.requests[-1].body == sent.read_bytes()


def test_chunks_that_another_addon_transforms_are_recorded_as_sent(streaming: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/transformed"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    done = curl(streaming, plain_origin.url("/transformed"), "-d", "request body")
    assert done.stdout == b"ABCthe end"
    entry = streaming.api.wait_for("/transformed")
    assert streaming.api.body("request", entry) == "REQUEST BODY"
    assert streaming.api.body("response", entry) == "ABCthe end"
    assert (entry["request"]["bodySize"], entry["response"]["bodySize"]) == (12, 10)


def test_a_streamed_body_that_is_cut_off_keeps_what_had_passed(streaming: Proxy, plain_origin: Origin) -> None:
    body = bytes(100_000)

    def reply(connection: socket.socket, _: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + body)
        connection.close()

    plain_origin.answers["/cut-stream"] = reply
    curl(streaming, plain_origin.url("/cut-stream"), check=False)
    entry = streaming.api.wait_for("/cut-stream", lambda entry: entry["response"])
    expected = base64.b64encode(body).decode()
    eventually(lambda: streaming.api.body("response", entry, "base64"), lambda found: found == expected)
    assert streaming.api.get(entry["id"])["response"]["bodySize"] is None


def test_a_large_download_is_in_the_store_whole_and_in_no_memory(streaming: Proxy, plain_origin: Origin) -> None:
    block = hashlib.sha256(b"block").digest() * 32_768
    blocks = STREAMED_SIZE // len(block)

    def reply(connection: socket.socket, _: Request) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {STREAMED_SIZE}\r\n\r\n".encode())
        for _block in range(blocks):
            connection.sendall(block)

    plain_origin.answers["/download"] = reply
    watched = Watch([psutil.Process(streaming.mitmdump.process.pid), *streaming.mitmdump.children()])
    curl(streaming, plain_origin.url("/download"), "-o", "/dev/null")
    entry = streaming.api.wait_for("/download")
    peaks = watched.stop()
    assert all(peak < MEMORY for peak in peaks), peaks
    assert entry["response"]["bodySize"] == STREAMED_SIZE
    out = streaming.api.body("response", entry, "base64")
    assert out is not None
    assert hashlib.sha256(base64.b64decode(out)).digest() == hashlib.sha256(block * blocks).digest()


class Watch:
    """The peaks of some processes' memory while they are watched, in bytes."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self._processes = processes
        self._peaks = [0] * len(processes)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        self._stopped.set()
        self._thread.join()
        return self._peaks

    def _watch(self) -> None:
        while not self._stopped.wait(0.02):
            resident = [process.memory_info().rss for process in self._processes]
            self._peaks = [max(pair) for pair in zip(self._peaks, resident, strict=True)]


# Event streams


def test_an_event_stream_reaches_the_client_and_the_api_event_by_event(proxy: Proxy, plain_origin: Origin) -> None:
    slow = Slow(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")
    plain_origin.answers["/events"] = slow
    with socket.create_connection((HOST, proxy.port)) as client:
        client.sendall(f"GET {plain_origin.url('/events')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        slow.send(b"data: one\n\n")
        received = b""
        while b"data: one\n\n" not in received:
            received += client.recv(4096)
        entry = proxy.api.wait_for("/events", lambda entry: entry["response"])
        response_body(proxy.api, entry, "data: one\n\n")
        slow.send("data: zwölf\n\n".encode())
        while "zwölf\n\n".encode() not in received:
            received += client.recv(4096)
        response_body(proxy.api, entry, "data: one\n\ndata: zwölf\n\n")
        assert proxy.api.get(entry["id"])["response"]["bodySize"] is None
        slow.end()
    eventually(lambda: proxy.api.get(entry["id"]), is_ended)
    assert proxy.api.body("response", entry) == "data: one\n\ndata: zwölf\n\n"


def test_an_event_stream_is_held_back_if_the_option_is_off(
    confdir: Path, trusting: tuple[str, ...], plain_origin: Origin
) -> None:
    slow = Slow(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 8\r\n\r\n")
    plain_origin.answers["/held-events"] = slow
    with (
        recording(confdir, *trusting, "--set", "entries_stream_sse=false") as held,
        socket.create_connection((HOST, held.port)) as client,
    ):
        client.sendall(f"GET {plain_origin.url('/held-events')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        slow.send(b"data")
        entry = held.api.wait_for("/held-events", lambda entry: entry["response"])
        response_body(held.api, entry, "data")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        client.setblocking(True)
        slow.send(b": x\n")
        assert client.recv(4096)
        slow.end()
