"""A driver of mitmproxy's layers: it plays the part of the proxy around an HTTP layer, without sockets."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_specs import ProxyMode

OPTIONS: tuple[tuple[str, Any, object], ...] = (
    ("body_size_limit", str | None, None),
    ("http2_ping_keepalive", int, 0),
    ("normalize_outbound_headers", bool, True),
    ("rawtcp", bool, True),
    ("store_streamed_bodies", bool, False),
    ("stream_large_bodies", str | None, None),
    ("validate_inbound_headers", bool, True),
    ("websocket", bool, True),
)
"""What mitmproxy's own addons declare, of what its HTTP layers ask for."""


class Driver:
    """An HTTP layer of regular mode; `on_hook` is called as addons are, and connections succeed at once."""

    def __init__(self, *, alpn: bytes | None = None, on_hook: Callable[[str, Any], object] = lambda *_: None) -> None:
        options = Options()
        for name, kind, default in OPTIONS:
            options.add_option(name, kind, default, "")
        self.client = Client(
            peername=("192.0.2.1", 1),
            sockname=("192.0.2.2", 8080),
            timestamp_start=0.0,
            state=ConnectionState.OPEN,
            alpn=alpn,
            proxy_mode=ProxyMode.parse("regular"),
        )
        self.layer = HttpLayer(Context(self.client, options), HTTPMode.regular)
        self.hooks: list[str] = []
        self.servers: list[Server] = []
        self.sent: defaultdict[Connection, bytes] = defaultdict(bytes)
        self._on_hook = on_hook

    def start(self) -> None:
        self._feed(events.Start())

    def receive(self, connection: Connection, data: bytes) -> None:
        self._feed(events.DataReceived(connection, data))

    def close(self, connection: Connection) -> None:
        connection.state = ConnectionState.CLOSED
        self._feed(events.ConnectionClosed(connection))

    def _feed(self, first: events.Event) -> None:
        waiting = deque([first])
        while waiting:
            for command in self.layer.handle_event(waiting.popleft()):
                waiting.extend(self._carry_out(command))

    def _carry_out(self, command: commands.Command) -> list[events.Event]:
        match command:
            case commands.StartHook():
                self.hooks.append(command.name)
                self._on_hook(command.name, command.args()[0])
                return [events.HookCompleted(command)]
            case commands.OpenConnection():
                command.connection.state = ConnectionState.OPEN
                self.servers.append(command.connection)
                return [events.OpenConnectionCompleted(command, None)]
            case commands.SendData():
                self.sent[command.connection] += command.data
            case commands.CloseConnection():
                command.connection.state = ConnectionState.CLOSED
        return []
