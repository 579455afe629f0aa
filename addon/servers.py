"""Server connections: how each was made, step by step, and which transaction accounts for that."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy

from addon.clock import Now, now
from rpc.records import Connecting

if TYPE_CHECKING:
    from mitmproxy import connection, http
    from mitmproxy.proxy.layer import Layer
    from mitmproxy.proxy.layers.quic import QuicTlsData
    from mitmproxy.proxy.server_hooks import ServerConnectionHookData
    from mitmproxy.tls import TlsData

    from rpc.records import Address

MARK = "_entries_server"
"""Where a `Server` lies: on mitmproxy's own object, so that it is found at once and goes away with it."""

STEPS = Connecting.__struct_fields__


class Server:
    """One connection to a server, directly or through an upstream proxy.

    Instants are on the monotonic clock, null until they are seen; `rpc.records.Connecting` says what each is.
    `charged_to` is the id of the entry that accounts for the connection.
    """

    __slots__ = ("charged_to", "peer", "since", *STEPS)

    def __init__(self, queued: Now) -> None:
        self.since = queued
        self.peer: Address | None = None
        self.charged_to: str | None = None
        self.queued: float | None = queued.monotonic
        self.opened: float | None = None
        self.resolving: float | None = None
        self.resolved: float | None = None
        self.connected: float | None = None
        self.securing: float | None = None
        self.secured: float | None = None
        self.tunnelling: float | None = None
        self.tunnelled: float | None = None
        self.securing_inside: float | None = None
        self.secured_inside: float | None = None

    def steps(self, zero: float) -> tuple[float | None, ...]:
        """Return the steps of `rpc.records.Connecting` as offsets from `zero`."""
        return tuple(None if (at := getattr(self, step)) is None else at - zero for step in STEPS)

    def open(self, conn: connection.Server, at: Now) -> None:
        """Take in when mitmproxy began to connect, which it has noted on the wall clock; looking up comes after."""
        if conn.timestamp_start is None:
            return
        opened = at.monotonic_of(conn.timestamp_start, self.since)
        self.opened = opened if self.resolving is None else min(opened, self.resolving)

    def connect(self, conn: connection.Server, at: Now) -> None:
        """Take in that TCP is up; over UDP, that there is a socket."""
        self.open(conn, at)
        connected = at.monotonic_of(conn.timestamp_tcp_setup or at.wall, self.since)
        self.connected = connected if self.resolved is None else max(connected, self.resolved)
        self.peer = conn.peername[:2] if conn.peername else None

    def secure(self, at: float) -> None:
        """Take in that a TLS handshake begins: the one with an upstream proxy may be followed by one inside of it."""
        if self.tunnelling is not None:
            self.tunnel(at)
            self.securing_inside = self.securing_inside or at
        else:
            self.securing = self.securing or at

    def finish_securing(self, at: float) -> None:
        """Take in that a TLS handshake is done, or has failed."""
        if self.securing_inside is not None:
            self.secured_inside = max(at, self.securing_inside)
        elif self.securing is not None:
            self.secured = max(at, self.securing)

    def tunnel(self, at: float) -> None:
        """Take in that the tunnel through an upstream proxy is there, if there has to be one."""
        if self.tunnelling is not None and self.tunnelled is None:
            self.tunnelled = at


being_opened: ContextVar[Server | None] = ContextVar("being_opened", default=None)
"""The connection that the running task opens: its host name is what that task resolves."""


class Servers:
    """What mitmproxy's hooks tell of server connections."""

    def queued(self, data: ServerConnectionHookData) -> None:
        """Take in that a connection is wanted."""
        server = Server(now())
        setattr(data.server, MARK, server)
        being_opened.set(server)

    def connected(self, data: ServerConnectionHookData) -> None:
        """Take in that the connection is up."""
        being_opened.set(None)
        if (server := server_of(data.server)) is not None:
            server.connect(data.server, now())

    def failed(self, data: ServerConnectionHookData) -> None:
        """Take in that connecting has failed."""
        being_opened.set(None)
        if (server := server_of(data.server)) is not None:
            server.open(data.server, now())

    def tunnelling(self, flow: http.HTTPFlow) -> None:
        """Take in that an upstream proxy is asked for a tunnel."""
        if (server := server_of(flow.server_conn)) is not None:
            server.tunnelling = time.monotonic()

    def securing(self, data: TlsData | QuicTlsData) -> None:
        """Take in that the TLS handshake begins."""
        if (server := server_of(data.conn, data.context.layers)) is not None:
            server.secure(time.monotonic())

    def secured(self, data: TlsData) -> None:
        """Take in that the TLS handshake is done, or has failed."""
        if (server := server_of(data.conn, data.context.layers)) is not None:
            at = now()
            server.finish_securing(at.monotonic_of(data.conn.timestamp_tls_setup or at.wall, server.since))


def server_of(conn: connection.Connection, layers: Iterable[Layer] = ()) -> Server | None:
    """Return what is known of a connection; null if it was not seen being made.

    One through an upstream proxy is made over the connection to that, which the tunnel's layer among `layers` tells.
    """
    server: Server | None = getattr(conn, MARK, None)
    if server is None and getattr(conn, "via", None) is not None:
        tunnels = (layer for layer in layers if isinstance(layer, HttpUpstreamProxy) and layer.conn is conn)
        server = next((getattr(tunnel.tunnel_connection, MARK, None) for tunnel in tunnels), None)
        if server is not None:
            setattr(conn, MARK, server)
    return server
