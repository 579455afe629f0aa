"""Server connections: how each was made, step by step, and which transaction accounts for that."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from addon.clock import Now, now

if TYPE_CHECKING:
    from mitmproxy import connection
    from mitmproxy.proxy.server_hooks import ServerConnectionHookData
    from mitmproxy.tls import TlsData

    from addon.clients import Client, Clients
    from addon.transactions import Transaction


class Server:
    """One connection to a server. Instants are on the monotonic clock, null until they are seen."""

    def __init__(self, conn: connection.Server, queued: Now) -> None:
        self.conn = conn
        self.began = queued
        self.opened: float | None = None
        self.resolving: float | None = None
        self.resolved: float | None = None
        self.connected: float | None = None
        self.securing: float | None = None
        self.secured: float | None = None
        self.charged_to: Transaction | None = None

    def steps(self, zero: float) -> tuple[float | None, ...]:
        """Return the steps of `rpc.records.Connecting` as offsets from `zero`."""
        steps = (
            self.began.monotonic,
            self.opened,
            self.resolving,
            self.resolved,
            self.connected,
            self.securing,
            self.secured,
        )
        return tuple(None if at is None else at - zero for at in steps)

    def take_opened(self, at: Now) -> None:
        """Take in when mitmproxy began to connect, which it has noted on the wall clock."""
        if self.conn.timestamp_start is not None:
            self.opened = at.monotonic_of(self.conn.timestamp_start)


being_opened: ContextVar[Server | None] = ContextVar("being_opened", default=None)
"""The connection that the running task opens: its host name is what that task resolves."""


class Servers:
    """The server connections of every client."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def queued(self, data: ServerConnectionHookData) -> None:
        """Take in that a connection is wanted."""
        if (client := self._clients.known(data.client)) is not None:
            server = client.servers[data.server.id] = Server(data.server, now())
            being_opened.set(server)

    def connected(self, data: ServerConnectionHookData) -> None:
        """Take in that TCP is up."""
        if (server := self._find(data)) is None:
            return
        at = now()
        server.take_opened(at)
        server.connected = at.monotonic_of(data.server.timestamp_tcp_setup or at.wall)

    def failed(self, data: ServerConnectionHookData) -> None:
        """Take in that connecting has failed."""
        if (server := self._find(data)) is not None:
            server.take_opened(now())

    def disconnected(self, data: ServerConnectionHookData) -> None:
        """Let go of a connection that has been accounted for."""
        client = self._clients.known(data.client)
        if client is None or (server := client.servers.get(data.server.id)) is None or server.charged_to is None:
            return
        client.servers = {key: other for key, other in client.servers.items() if other is not server}

    def securing(self, data: TlsData) -> None:
        """Take in that the TLS handshake begins."""
        if (server := self._of_tls(data)) is not None and server.securing is None:
            server.securing = time.monotonic()

    def secured(self, data: TlsData) -> None:
        """Take in that the TLS handshake is done."""
        if (server := self._of_tls(data)) is not None:
            at = now()
            server.secured = at.monotonic_of(data.conn.timestamp_tls_setup or at.wall)

    def _find(self, data: ServerConnectionHookData) -> Server | None:
        client = self._clients.known(data.client)
        return client.servers.get(data.server.id) if client else None

    def _of_tls(self, data: TlsData) -> Server | None:
        client = self._clients.known(data.context.client)
        return find(client, data.conn) if client else None  # type: ignore[arg-type]


def find(client: Client, conn: connection.Server) -> Server | None:
    """Return what is known of a connection; one through an upstream proxy is made over the connection to that."""
    if (server := client.servers.get(conn.id)) is not None or not conn.via:
        return server
    for carrier in reversed(client.servers.values()):
        if carrier.conn.address == conn.via[1] and carrier.conn.via is None:
            client.servers[conn.id] = carrier
            return carrier
    return None


def find_attempt(client: Client, host: str, port: int) -> Server | None:
    """Return the latest connection to an address that is not accounted for: what a failed transaction waited for."""
    for server in reversed(client.servers.values()):
        if server.charged_to is None and (server.conn.address == (host, port) or server.conn.via):
            return server
    return None
