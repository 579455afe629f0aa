"""Captures that were made without recording: what mitmproxy's own timestamps support."""

from __future__ import annotations

import pytest
from mitmproxy import http
from mitmproxy.flow import Error
from mitmproxy.test.tflow import tclient_conn, tflow, tserver_conn

from addon.captures import Captures
from addon.clients import Clients
from addon.link import Link
from addon.saved import Saved
from rpc.records import Connecting
from rpc.timings import Instants, phases

STARTED = 1_800_000_000.0


def captured(*, tls: bool = True, opened: float | None = 0.125, **exchange: float | None) -> http.HTTPFlow:
    """Return a flow as a file has it, with times in seconds since the request: TCP and TLS take 250 and 500 ms."""
    flow = tflow(client_conn=tclient_conn(), server_conn=tserver_conn())
    flow.live = False
    flow.request.timestamp_start = STARTED
    flow.request.timestamp_end = at(exchange.get("request_end", 0.125))
    assert flow.response is None
    flow.response = http.Response.make()
    flow.response.timestamp_start = STARTED + (exchange.get("response_start") or 1.25)
    flow.response.timestamp_end = at(exchange.get("response_end", 1.5))
    server = flow.server_conn
    server.timestamp_start = at(opened)
    server.timestamp_tcp_setup = at(None if opened is None else opened + 0.25)
    server.timestamp_tls_setup = at(opened + 0.75) if tls and opened is not None else None
    return flow


def at(seconds: float | None) -> float | None:
    return None if seconds is None else STARTED + seconds


@pytest.fixture
def captures() -> Captures:
    return Captures(Clients(Link()))


def phases_of(saved: Saved) -> dict[str, int]:
    steps = saved["connecting"]
    names = ("request_start", "request_end", "response_start", "response_end", "failed", "released", "sent")
    exchange = {name: saved[name] for name in names}  # type: ignore[literal-required]
    return phases(Instants(**exchange, connecting=Connecting(*steps) if steps else None))


def test_the_first_request_on_a_connection_accounts_for_it(captures: Captures) -> None:
    first, second = captured(), captured()
    second.server_conn = first.server_conn
    assert phases_of(captures.transaction(first).saved) == {
        "send": 125,
        "connect": 750,
        "ssl": 500,
        "blocked": 0,
        "wait": 375,
        "receive": 250,
    }
    found = phases_of(captures.transaction(second).saved)
    assert found.keys() == {"send", "blocked", "wait", "receive"}


def test_an_entry_starts_with_a_connection_that_was_made_before_its_request(captures: Captures) -> None:
    saved = captures.transaction(captured(opened=-1.0)).saved
    assert saved["started"] == STARTED - 1.0
    assert phases_of(saved) == {"connect": 750, "ssl": 500, "blocked": 250, "send": 125, "wait": 1125, "receive": 250}


def test_a_request_that_no_server_has_seen_was_not_waited_for(captures: Captures) -> None:
    found = phases_of(captures.transaction(captured(opened=None)).saved)
    assert found == {"send": 125, "blocked": 1125, "receive": 250}


def test_a_connection_that_failed_is_all_that_was_done(captures: Captures) -> None:
    flow = captured()
    flow.response = None
    flow.server_conn.timestamp_tcp_setup = flow.server_conn.timestamp_tls_setup = None
    flow.error = Error("refused", STARTED + 0.5)
    found = phases_of(captures.transaction(flow).saved)
    assert found == {"send": 125, "connect": 375}


def test_a_har_file_has_no_phases(captures: Captures) -> None:
    flow = captured()
    flow.client_conn.peername = ("127.0.0.1", 0)
    assert phases_of(captures.transaction(flow).saved) == {}


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_timestamps_out_of_order_never_make_a_negative_phase(captures: Captures, step: float) -> None:
    """The clock was set while the response was awaited; nothing but the wall clock was kept."""
    flow = captured(response_start=1.25 + step, response_end=1.5 + step)
    assert all(spent >= 0 for spent in phases_of(captures.transaction(flow).saved).values())
