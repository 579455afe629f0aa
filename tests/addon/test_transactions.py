"""Transactions: when things happen to a flow, as offsets from its entry's start."""

from __future__ import annotations

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.test.tflow import tclient_conn, tflow, tserver_conn

from addon import transactions
from addon.clients import Client
from addon.clock import now
from addon.saved import Saved, SavedClient
from addon.servers import MARK, STEPS, Server
from addon.transactions import Transaction
from tests.addon.fake_time import FakeTime

HOUR = 3600.0

HAPPENINGS = ("begin", "released", "request_end", "hook", "sent", "response_start", "response_end", "last hook")


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    fake.put_in_place(monkeypatch)
    return fake


@pytest.fixture
def client(time: FakeTime) -> Client:
    assert time.monotonic() > 0
    return Client(1, tclient_conn(), SavedClient(tls=None, http2=None), find_process=False)


def asked(time: FakeTime, *, resp: bool = True) -> http.HTTPFlow:
    """Return a live flow whose request's head has just come, and which has no connection to a server."""
    flow = tflow(resp=resp)
    flow.live = True
    flow.server_conn = tserver_conn()
    flow.server_conn.state = ConnectionState.CLOSED
    flow.request.timestamp_start = time.pass_by(0.0)
    return flow


def made(time: FakeTime) -> Server:
    """Return a connection that has taken 4 s."""
    server = Server(now())
    server.opened = time.monotonic()
    time.pass_by(4.0)
    server.connected = time.monotonic()
    return server


def offsets(transaction: Transaction) -> dict[str, float]:
    """Return what was seen of the exchange."""
    names = ("request_start", "released", "request_end", "sent", "response_start", "response_end", "failed")
    saved = {name: at for name, at in transaction.saved.items() if name in names and isinstance(at, float)}
    return {name: round(at, 6) for name, at in saved.items()}


def connecting(saved: Saved) -> dict[str, float] | None:
    steps = saved["connecting"]
    if steps is None:
        return None
    return {name: round(at, 6) for name, at in zip(STEPS, steps, strict=True) if at is not None}


def exchange(time: FakeTime, client: Client, *, step: float, before: str) -> Transaction:
    """Let an exchange go by, with a second between all that happens; the wall clock is set before one of these."""

    def pass_by(name: str) -> float:
        wall = time.pass_by(1.0)
        if name == before:
            time.set_wall(step)
            wall += step
        return wall

    flow = asked(time)
    assert flow.response is not None
    pass_by("begin")
    transaction = transactions.begin(flow, client)
    pass_by("released")
    transaction.see_release()
    flow.request.timestamp_end = pass_by("request_end")
    pass_by("hook")
    transaction.see_request_end()
    pass_by("sent")
    transaction.see_sending(None)
    flow.response.timestamp_start = pass_by("response_start")
    pass_by("hook of the response's head")
    transaction.see_response_start(flow.response)
    flow.response.timestamp_end = pass_by("response_end")
    pass_by("last hook")
    transaction.see_response_end()
    return transaction


@pytest.mark.parametrize("step", [0.0, 0.5, -0.5, 30.0, -30.0, HOUR, -HOUR])
@pytest.mark.parametrize(
    "before",
    ["begin", "released", "request_end", "hook", "sent", "response_start", "response_end", "hook of the response"],
)
def test_offsets_are_right_when_the_clock_is_set_in_between(
    time: FakeTime, client: Client, step: float, before: str
) -> None:
    time.pass_by(HOUR)
    found = offsets(exchange(time, client, step=step, before=before))
    expected = {
        "request_start": 0,
        "released": 2,
        "request_end": 3,
        "sent": 5,
        "response_start": 6,
        "response_end": 8,
    }
    assert found.keys() == expected.keys()
    at = list(found.values())
    assert at == sorted(at)
    # A step that is shorter than what it falls into cannot be told from what has passed.
    tolerance = abs(step) if abs(step) < 1.0 else 0.0
    assert at == pytest.approx(list(expected.values()), abs=tolerance + 1e-6)


def test_started_never_runs_back_on_a_connection(time: FakeTime, client: Client) -> None:
    started = []
    for step in (0.0, -HOUR, 1.0, -5.0):
        time.set_wall(step)
        time.pass_by(1.0)
        started.append(transactions.begin(asked(time), client).saved["started"])
    assert started == sorted(started)
    assert started[3] - started[0] == pytest.approx(3.0)


def test_ids_are_in_the_order_in_which_requests_began(time: FakeTime, client: Client) -> None:
    ids = [transactions.begin(asked(time), client).id for _ in range(100)]
    assert ids == sorted(set(ids))


def test_an_entry_starts_with_a_connection_that_was_made_before(time: FakeTime, client: Client) -> None:
    server = made(time)
    time.pass_by(2.0)
    flow = asked(time)
    flow.server_conn.state = ConnectionState.OPEN
    setattr(flow.server_conn, MARK, server)
    transaction = transactions.begin(flow, client)
    assert offsets(transaction) == {"request_start": 6}
    assert connecting(transaction.saved) == {"queued": 0, "opened": 0, "connected": 4}
    assert transaction.saved["started"] == server.since.wall
    assert transactions.begin(flow, client).saved["connecting"] is None


@pytest.mark.parametrize("error", [None, "no TLS"])
def test_a_connection_that_has_gone_is_accounted_for_only_if_it_fails_the_request(
    time: FakeTime, client: Client, error: str | None
) -> None:
    flow = asked(time)
    setattr(flow.server_conn, MARK, made(time))
    flow.server_conn.error = error
    assert (transactions.begin(flow, client).saved["connecting"] is None) is (error is None)


def test_of_the_requests_that_have_waited_the_first_accounts_for_the_connection(time: FakeTime, client: Client) -> None:
    first, second = (transactions.begin(asked(time), client) for _ in range(2))
    server = made(time)
    for transaction in (first, second):
        transaction.see_sending(server)
    assert connecting(first.saved) == {"queued": 0, "opened": 0, "connected": 4}
    assert second.saved["connecting"] is None
    assert offsets(second)["sent"] == 4


def test_a_failure_tells_of_the_attempt_that_it_stands_for(time: FakeTime, client: Client) -> None:
    transaction = transactions.begin(asked(time, resp=False), client)
    server = Server(now())
    server.peer = ("192.0.2.1", 443)
    time.pass_by(3.0)
    transaction.see_refusal(server)
    transaction.see_failure()
    assert offsets(transaction) == {"request_start": 0, "failed": 3}
    assert connecting(transaction.saved) == {"queued": 0}
    assert transaction.saved["remote"] == ("192.0.2.1", 443)


def test_a_request_without_an_end_of_its_own_is_whole_from_the_start(time: FakeTime, client: Client) -> None:
    flow = asked(time)
    flow.request.timestamp_end = None
    time.pass_by(3.0)
    transaction = transactions.begin(flow, client)
    transaction.see_request_end()
    assert offsets(transaction) == {"request_start": 0, "request_end": 0}


def test_nothing_that_is_seen_changes_what_a_capture_has_kept(time: FakeTime, client: Client) -> None:
    flow = asked(time)
    assert flow.response is not None
    kept = transactions.begin(flow, client).saved
    before = dict(kept)
    transaction = Transaction(flow, client, kept, None)
    time.pass_by(1.0)
    transaction.see_release()
    transaction.see_request_end()
    transaction.see_sending(made(time))
    transaction.see_refusal(made(time))
    transaction.see_response_start(flow.response)
    transaction.see_response_end()
    transaction.see_failure()
    assert kept == before
