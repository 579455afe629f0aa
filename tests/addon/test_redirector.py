"""Local mode: its redirector runs on macOS and Windows alone, so that its stream is imitated here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mitmproxy import connection
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.test import taddons

from addon.redirector import redirected_process
from rpc.records import Process


class Stream:
    """A stream that knows some things, as `mitmproxy_rs.Stream` does: asked for others, it has the default alone."""

    def __init__(self, **extra_info: Any) -> None:
        self._extra_info = extra_info

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name not in self._extra_info and default is None:
            raise KeyError(name)
        return self._extra_info.get(name, default)


class Handler:
    """What is left of `ProxyConnectionHandler`."""

    def __init__(self, conn: connection.Client, stream: Stream) -> None:
        self.transports = {conn: ConnectionIO(writer=stream)}  # type: ignore[arg-type]


@contextmanager
def connected(mode: str, stream: Stream | None) -> Iterator[connection.Client]:
    conn = connection.Client(
        peername=("127.0.0.1", 50000),
        sockname=("192.0.2.1", 443),
        timestamp_start=0.0,
        proxy_mode=mode_specs.ProxyMode.parse(mode),
    )
    proxyserver = Proxyserver()
    if stream is not None:
        proxyserver.connections[conn.id] = Handler(conn, stream)  # type: ignore[assignment]
    with taddons.context(proxyserver):
        yield conn


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/Applications/Safari.app/Contents/MacOS/Safari", "Safari"),
        ("C:\\Windows\\System32\\curl.exe", "curl.exe"),
        ("curl", "curl"),
        ("", None),
        (None, None),
    ],
)
def test_local_mode_tells_the_process(path: str | None, name: str | None) -> None:
    with connected("local:curl", Stream(pid=4711, process_name=path)) as conn:
        assert redirected_process(conn) == Process(4711, name)


def test_it_may_not_know_the_process() -> None:
    """So on Linux, where the redirector sends packets alone."""
    with connected("local", Stream(pid=None, process_name=None)) as conn:
        assert redirected_process(conn) is None
    with connected("local", Stream()) as conn:
        assert redirected_process(conn) is None


def test_a_connection_that_has_ended_tells_nothing() -> None:
    with connected("local", None) as conn:
        assert redirected_process(conn) is None


def test_other_modes_tell_nothing() -> None:
    with connected("regular", Stream(pid=4711, process_name="curl")) as conn:
        assert redirected_process(conn) is None
