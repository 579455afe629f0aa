"""What the captures are about: each subject sends real requests from real clients to real servers, through a proxy.

A subject returns how many entries it has made.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import brotli
import httpx
import zstandard

from tests.peers.asgi import hypercorn
from tests.peers.authority import Authority
from tests.peers.clients import curl, trust, websocket
from tests.peers.listener import HOST
from tests.peers.node import push_client, push_origin
from tests.peers.origin import Origin, Request, answer, origin
from tests.peers.proxy import Proxy
from tests.peers.websocket import echo_server

TEXT = "The quick brown fox jumps over the lazy dog. Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\n"


class Peers:
    """The servers that a subject needs, for as long as it is entered."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.folder = folder
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def origin(self, *, tls: ssl.SSLContext | None = None, host: str = HOST) -> Origin:
        """Serve literal answers."""
        return self._open.enter_context(origin(tls, host))

    def hypercorn(self) -> int:
        """Serve over HTTP/2 and TLS; return the port."""
        return self._open.enter_context(hypercorn(self.authority.certificate))

    def pusher(self) -> int:
        """Push over HTTP/2 and TLS; return the port."""
        return self._open.enter_context(push_origin(self.authority.certificate))

    def echo(self, *, tls: ssl.SSLContext | None = None) -> int:
        """Echo WebSocket messages; return the port."""
        return self._open.enter_context(echo_server(tls))


def plain(proxy: Proxy, peers: Peers) -> int:
    """GET and POST over HTTP/1.1, on one connection and on two."""
    server = peers.origin()
    server.answers["/get"] = answer(b"hello", "Content-Type: text/plain", "X-Twice: 1", "x-twice: 2")
    server.answers["/post"] = answer(b'{"ok": true}', "Content-Type: application/json", status="201 Created")
    curl(proxy, server.url("/get?a=1&b=%20&a=2"), server.url("/get", "localhost"))
    curl(proxy, server.url("/post"), "-d", "name=Gr%C3%BC%C3%9Fe", "-H", "X-Request: yes")
    return 3


def compressed(proxy: Proxy, peers: Peers) -> int:
    """Bodies with one content encoding, with two, and with one that is not what it says."""
    data = (TEXT * 20).encode()
    bodies = {
        "gzip": gzip.compress(data, mtime=0),
        "br": brotli.compress(data),
        "zstd": zstandard.compress(data),
        "deflate": zlib.compress(data),
        "gzip, br": brotli.compress(gzip.compress(data, mtime=0)),
        "x-unknown": data,
        "identity": data,
    }
    server = peers.origin()
    for number, (coding, body) in enumerate(bodies.items()):
        fields = ("Content-Type: text/plain; charset=utf-8", f"Content-Encoding: {coding}")
        server.answers[f"/{number}"] = answer(body, *fields)
    server.answers["/broken"] = answer(b"no gzip at all", "Content-Encoding: gzip")
    curl(proxy, *(server.url(path) for path in server.answers))
    return len(server.answers)


def http2(proxy: Proxy, peers: Peers) -> int:
    """Interleaved streams of one HTTP/2 connection over TLS 1.3."""
    port = peers.hypercorn()

    async def fetch_all() -> None:
        async with httpx.AsyncClient(proxy=proxy.http_url, verify=trust(proxy), trust_env=False, http2=True) as client:
            await client.get(f"https://localhost:{port}/first")
            posts = (client.post(f"https://localhost:{port}/{n}", content=bytes(n * 1_000)) for n in range(6))
            await asyncio.gather(*posts)

    asyncio.run(fetch_all())
    return 7


def pushes(proxy: Proxy, peers: Peers) -> int:
    """A page along with which a server pushes a style sheet, with trailers, to a client that allows it."""
    push_client(proxy, peers.pusher(), allows_push=True)
    return 2


def websockets(proxy: Proxy, peers: Peers) -> int:
    """Messages of both kinds, whole and in fragments, pings, and both ways of closing; over TCP and over TLS."""
    for scheme, port in (("ws", peers.echo()), ("wss", peers.echo(tls=peers.authority.server_context()))):
        with websocket(proxy, f"{scheme}://localhost:{port}/{scheme}") as socket_:
            for message in ("text", b"\x00\x01\xff", "", ["in ", "three ", "fragments"]):
                socket_.send(message)
                socket_.recv()
            socket_.ping("are you there").wait(10)
            socket_.close(1001, "on my way")
    return 2


def tls12(proxy: Proxy, peers: Peers) -> int:
    """TLS 1.2 and 1.3 clients of one TLS 1.2 server."""
    server = peers.origin(tls=peers.authority.server_context(version=ssl.TLSVersion.TLSv1_2))
    server.answers["/"] = answer(b"secret")
    curl(proxy, "--tls-max", "1.2", server.url("/?client=1.2", "localhost"))
    curl(proxy, server.url("/?client=1.3", "localhost"))
    return 2


def failures(proxy: Proxy, peers: Peers) -> int:
    """A refused connection, a reset before the answer, one within it, and a server that speaks no HTTP."""
    server = peers.origin()

    def cut(connection: socket.socket, _: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all")
        connection.close()

    server.answers["/closed"] = lambda connection, _: connection.close()
    server.answers["/cut"] = cut
    server.answers["/nonsense"] = b"220 mail.test ESMTP\r\n\r\n"
    for path in server.answers:
        curl(proxy, server.url(path), check=False)
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        curl(proxy, f"http://{HOST}:{reserved.getsockname()[1]}/refused", check=False)
    return 4


def bodiless(proxy: Proxy, peers: Peers) -> int:
    """HEAD, 204, 304 and a 200 without a body."""
    server = peers.origin()
    server.answers["/head"] = b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
    server.answers["/204"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    server.answers["/304"] = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'
    server.answers["/200"] = answer(b"")
    curl(proxy, "-I", server.url("/head"))
    curl(proxy, server.url("/204"), server.url("/304"), server.url("/200"))
    return 4


def trailers(proxy: Proxy, peers: Peers) -> int:
    """A chunked response with trailer fields, and a chunked request."""
    server = peers.origin()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    server.answers["/trailers"] = head + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nX-Sum: 6\r\n\r\n"
    curl(proxy, server.url("/trailers"), "-H", "Transfer-Encoding: chunked", "-d", "sent in chunks")
    return 1


def latin1(proxy: Proxy, peers: Peers) -> int:
    """Header fields, a reason and bodies that are not UTF-8."""
    server = peers.origin()
    head = b"HTTP/1.1 200 Gef\xe4llt mir\r\nX-Latin: \xe9\xff\r\nX-UTF-8: \xc3\xa9\r\n"
    body = "Grüße aus Köln".encode("latin-1")
    length = f"Content-Length: {len(body)}\r\n".encode()
    server.answers["/named"] = head + length + b"Content-Type: text/plain; charset=ISO-8859-1\r\n\r\n" + body
    server.answers["/unnamed"] = head + length + b"Content-Type: text/plain\r\n\r\n" + body
    for path in server.answers:
        with socket.create_connection((HOST, proxy.port)) as client:
            request = f"GET {server.url(path)} HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n"
            client.sendall(request.encode() + b"X-Sent: \xe4\r\nConnection: close\r\n\r\n")
            while client.recv(4096):
                pass
    return 2


def ipv6(proxy: Proxy, peers: Peers) -> int:
    """A server that is named by its IPv6 address."""
    server = peers.origin(host="::1")
    server.answers["/"] = answer(b"six")
    curl(proxy, "-g", server.url("/"))
    return 1


def streamed(proxy: Proxy, peers: Peers) -> int:
    """An event stream."""
    server = peers.origin()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers["/events"] = head + b"b\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n"
    curl(proxy, server.url("/events"))
    return 1


SUBJECTS: dict[str, Callable[[Proxy, Peers], int]] = {
    subject.__name__: subject
    for subject in (
        plain,
        compressed,
        http2,
        pushes,
        websockets,
        tls12,
        failures,
        bodiless,
        trailers,
        latin1,
        ipv6,
        streamed,
    )
}
