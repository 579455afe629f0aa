"""Client connections: their addresses, TLS and HTTP/2 connections and processes, told to the child when they change."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mitmproxy import ctx

from addon.clock import Timeline, now
from addon.ids import new_id
from addon.redirector import redirected_process
from addon.saved import SavedClient, SavedTls
from rpc import records

if TYPE_CHECKING:
    from mitmproxy import connection, tls

    from addon.link import Link

PROCESS_SECONDS = 1.0
"""How long a flow that is being written to a file may wait for the answer about its client's process."""

CLIENT_HELLO = b"\x01"
"""The handshake type of a ClientHello (RFC 8446 section 4)."""


def handshake_message(client_hello: bytes) -> bytes:
    """Return the body of a ClientHello with the handshake header that mitmproxy leaves out."""
    return CLIENT_HELLO + len(client_hello).to_bytes(3) + client_hello


class Client:
    """One client connection.

    `saved` is what its entries save: one object shared by them, so that a late answer about the process reaches each.
    """

    def __init__(self, key: int, conn: connection.Client, saved: SavedClient, *, find_process: bool) -> None:
        self.key = key
        self.saved = saved
        self.since = now()
        self.timeline = Timeline(self.since)
        self._conn = conn
        self._find_process = find_process
        self._is_told = False
        self._earlier: list[SavedClient] = []
        self._answer: asyncio.Future[None] | None = None

    def tell(self, link: Link) -> None:
        """Tell the child what it does not know yet."""
        if not self._is_told:
            self._is_told = True
            link.send(self._record())

    def forget_telling(self) -> None:
        """Take in that the child may not know what it was told."""
        self._is_told = False

    def begin_tls(self, client_hello: bytes) -> None:
        """Take in the ClientHello of a new TLS connection, which may run inside an earlier one."""
        tls = _new_tls(self._conn, client_hello)
        self._change(SavedClient(tls=tls, http2=None))

    def finish_tls(self) -> None:
        """Take in what was negotiated."""
        if (tls := self.saved["tls"]) is not None:
            tls["version"], tls["cipher"] = self._conn.tls_version, self._conn.cipher
            self._is_told = False

    def begin_http2(self) -> None:
        """Take in that an HTTP/2 connection begins."""
        self._change(SavedClient(tls=self.saved["tls"], http2=new_id()))

    def set_process(self, process: records.Process | None) -> None:
        """Take in the answer about the client's process."""
        for saved in (*self._earlier, self.saved):
            saved["process"] = (process.pid, process.name) if process else None
        if self._answer is not None:
            self._answer.set_result(None)
            self._answer = None

    def process_answer(self) -> Awaitable[object] | None:
        """Return what to wait for until the process is known, or given up; null if there is no need."""
        if not self._find_process or "process" in self.saved:
            return None
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
        return asyncio.wait((self._answer,), timeout=PROCESS_SECONDS)

    def _change(self, saved: SavedClient) -> None:
        """Go on with other facts; entries that came before keep what they had."""
        self._earlier.append(self.saved)
        if "process" in self.saved:
            saved["process"] = self.saved["process"]
        self.saved = saved
        self._is_told = False

    def _record(self) -> records.ClientConnection:
        tls, process = self.saved["tls"], self.saved.get("process")
        return records.ClientConnection(
            key=self.key,
            peer=_address(self._conn.peername),
            local=_address(self._conn.sockname),
            transport=self._conn.transport_protocol,
            tls=records.Tls(**tls) if tls else None,
            http2=self.saved["http2"],
            process=records.Process(*process) if process else None,
            find_process=self._find_process and "process" not in self.saved,
            is_urgent=bool(ctx.options.save_stream_file),
        )


class Clients:
    """The client connections that are open now."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._keys = itertools.count(1)
        self._by_id: dict[str, Client] = {}
        self._by_key: dict[int, Client] = {}

    def connected(self, conn: connection.Client) -> Client:
        """Take in a new connection. The child is told at once: a short-lived process must be found while it lives."""
        # Of TLS that was there before recording began, mitmproxy still knows what was negotiated.
        saved = SavedClient(tls=_tls_of(conn), http2=None)
        client = Client(next(self._keys), conn, saved, find_process=_is_open(conn))
        self._by_id[conn.id] = self._by_key[client.key] = client
        if (process := redirected_process(conn)) is not None:
            self.set_process(client.key, process)
        client.tell(self._link)
        self._link.flush()
        return client

    def disconnected(self, conn: connection.Client) -> None:
        """Let go of a connection; its transactions may still come to their ends."""
        if (client := self._by_id.pop(conn.id, None)) is not None:
            self._link.send(records.ClientDisconnected(client.key))

    def tell_anew(self) -> list[int]:
        """Return the keys of the connections that are open; each is told again when an entry begins on it."""
        for client in self._by_id.values():
            client.forget_telling()
        return [client.key for client in self._by_id.values()]

    def known(self, conn: connection.Client) -> Client | None:
        """Return the connection; null once it has ended."""
        return self._by_id.get(conn.id)

    def of(self, conn: connection.Client) -> Client:
        """Return the connection, also one that was there before recording began."""
        return self._by_id.get(conn.id) or self.connected(conn)

    def replayed(self, conn: connection.Client, saved: SavedClient | None) -> Client:
        """Return a connection out of a saved capture, for one entry alone."""
        facts = saved or SavedClient(tls=_tls_of(conn), http2=None)
        return Client(next(self._keys), conn, facts, find_process=False)

    def begin_tls(self, data: tls.ClientHelloData) -> None:
        """Take in a ClientHello."""
        try:
            hello = data.client_hello.raw_bytes(wrap_in_record=False)
        except NotImplementedError:
            return  # mitmproxy does not give that of DTLS, over which there is no HTTP
        self.of(data.context.client).begin_tls(handshake_message(hello))

    def set_process(self, key: int, process: records.Process | None) -> None:
        """Take in the child's answer about the process of the connection with this key."""
        if (client := self._by_key.pop(key, None)) is not None:
            client.set_process(process)


def _is_open(conn: connection.Client) -> bool:
    """Return whether the client is still there. If not, its address can be another process's by now."""
    return conn.timestamp_end is None


def _new_tls(conn: connection.Client, client_hello: bytes | None) -> SavedTls:
    """Return what is known of a client's TLS connection; what is not negotiated yet is null."""
    return SavedTls(
        id=new_id(),
        client_hello=client_hello,
        version=conn.tls_version,
        cipher=conn.cipher,
        transport="quic" if conn.transport_protocol == "udp" else "tcp",
    )


def _tls_of(conn: connection.Client) -> SavedTls | None:
    """Return what mitmproxy itself keeps of a client's TLS connection."""
    return _new_tls(conn, None) if conn.tls_version else None


def _address(name: tuple[str, int] | None) -> records.Address | None:
    """Return one end of a connection; null for what mitmproxy makes up for a HAR file, which has port 0."""
    return name[:2] if name and name[1] else None
