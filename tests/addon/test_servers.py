"""Server connections, from what mitmproxy's hooks tell of them."""

from __future__ import annotations

import pytest
from mitmproxy import http, options
from mitmproxy.connection import Client
from mitmproxy.connection import Server as Connection
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tls import TlsData

from addon.servers import STEPS, Server, Servers, being_opened, server_of
from tests.addon.fake_time import FakeTime

HOUR = 3600.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    fake.put_in_place(monkeypatch)
    return fake


@pytest.fixture
def context() -> Context:
    client = Client(peername=("127.0.0.1", 50_000), sockname=("127.0.0.1", 8080), timestamp_start=0.0)
    context = Context(client, options.Options())
    context.server = Connection(address=("server.test", 443))
    return context


def data(context: Context, conn: Connection | None = None) -> ServerConnectionHookData:
    return ServerConnectionHookData(client=context.client, server=conn or context.server)


def known(conn: Connection) -> Server:
    server = server_of(conn)
    assert server is not None
    return server


def steps(server: Server) -> dict[str, float]:
    """Return the steps that were seen, as offsets from the first."""
    zero = server.queued or 0.0
    return {name: round(at, 6) for name, at in zip(STEPS, server.steps(zero), strict=True) if at is not None}


def make(time: FakeTime, context: Context, *, step: float = 0.0) -> Servers:
    """Make a connection: 1 s in the queue, 2 s for the name, 4 s for TCP, after which the wall clock is set."""
    servers, conn = Servers(), context.server
    servers.queued(data(context))
    conn.timestamp_start = time.pass_by(1.0)
    server = being_opened.get()
    assert server is not None
    server.resolving = time.monotonic()
    time.pass_by(2.0)
    server.resolved = time.monotonic()
    conn.timestamp_tcp_setup = time.pass_by(4.0)
    conn.peername = ("192.0.2.1", 443)
    time.set_wall(step)
    servers.connected(data(context))
    return servers


@pytest.mark.parametrize("step", [0.0, HOUR, -HOUR, -5.0, 5.0])
def test_the_steps_of_a_connection_are_seen_even_if_the_clock_is_set(
    time: FakeTime, context: Context, step: float
) -> None:
    servers = make(time, context, step=step)
    servers.securing(TlsData(context.server, context))
    context.server.timestamp_tls_setup = time.pass_by(8.0)
    servers.secured(TlsData(context.server, context))
    assert steps(known(context.server)) == {
        "queued": 0,
        "opened": 1,
        "resolving": 1,
        "resolved": 3,
        "connected": 7,
        "securing": 7,
        "secured": 15,
    }
    assert known(context.server).peer == ("192.0.2.1", 443)


def test_what_is_looked_up_after_a_connection_was_made_is_not_its_name(time: FakeTime, context: Context) -> None:
    make(time, context)
    assert being_opened.get() is None


def test_an_attempt_that_fails_has_no_step_after_its_beginning(time: FakeTime, context: Context) -> None:
    servers = Servers()
    servers.queued(data(context))
    context.server.timestamp_start = time.pass_by(1.0)
    time.pass_by(1.0)
    servers.failed(data(context))
    assert steps(known(context.server)) == {"queued": 0, "opened": 1}
    assert being_opened.get() is None


def test_an_attempt_that_an_addon_refuses_was_never_begun(context: Context) -> None:
    servers = Servers()
    servers.queued(data(context))
    servers.failed(data(context))
    assert steps(known(context.server)) == {"queued": 0}


def test_a_tls_handshake_that_fails_ends_too(time: FakeTime, context: Context) -> None:
    servers = make(time, context)
    servers.securing(TlsData(context.server, context))
    time.pass_by(3.0)
    servers.secured(TlsData(context.server, context))
    assert steps(known(context.server))["secured"] == 10


def test_a_connection_through_an_upstream_proxy_is_the_one_to_it_with_a_tunnel_and_tls_inside(
    time: FakeTime, context: Context
) -> None:
    inner = context.server
    inner.via = ("https", ("proxy.test", 3128))
    stack = HttpUpstreamProxy.make(context, send_connect=True)
    tunnel = next(layer for layer in context.layers if isinstance(layer, HttpUpstreamProxy))
    outer = tunnel.tunnel_connection
    context.server = outer
    servers = make(time, context)
    servers.securing(TlsData(outer, stack[0].context))
    outer.timestamp_tls_setup = time.pass_by(1.0)
    servers.secured(TlsData(outer, stack[0].context))
    servers.tunnelling(http.HTTPFlow(context.client, outer))
    time.pass_by(2.0)
    servers.securing(TlsData(inner, stack[0].context))
    inner.timestamp_tls_setup = time.pass_by(3.0)
    servers.secured(TlsData(inner, stack[0].context))
    assert known(inner) is known(outer)
    assert {name: at - 7 for name, at in steps(known(inner)).items() if at >= 7} == {
        "connected": 0,
        "securing": 0,
        "secured": 1,
        "tunnelling": 1,
        "tunnelled": 3,
        "securing_inside": 3,
        "secured_inside": 6,
    }


def test_a_connection_that_was_there_before_recording_began_is_not_known(time: FakeTime, context: Context) -> None:
    servers = Servers()
    servers.connected(data(context))
    servers.securing(TlsData(context.server, context))
    servers.secured(TlsData(context.server, context))
    servers.failed(data(context))
    servers.tunnelling(http.HTTPFlow(context.client, context.server))
    assert server_of(context.server) is None
    context.server.via = ("http", ("proxy.test", 3128))
    assert server_of(context.server) is None
    assert time.monotonic() > 0
