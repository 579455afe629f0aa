"""The phases of an entry, from hand-made instants and from any."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rpc.records import Connecting
from rpc.timings import CONNECTING, EXCHANGE, Instants, phases

HAR_PHASES = ("blocked", "dns", "connect", "send", "wait", "receive")

CONNECTED = Connecting(
    queued=0.010, opened=0.020, resolving=0.020, resolved=0.050, connected=0.090, securing=0.090, secured=0.140
)
"""A connection that is made after 10 ms: 10 in a queue, 30 for the name, 40 for TCP, 50 for TLS."""


@dataclass(frozen=True)
class Case:
    """What was seen, and what follows from it."""

    name: str
    seen: Instants
    expected: dict[str, int] = field(default_factory=dict)


def connecting(**steps: float) -> Connecting:
    return Connecting(**steps)


def instants(*exchange: float | None, connecting: Connecting | None = None, **others: float | None) -> Instants:
    """Return instants: first and last byte of the request and of the response, the failure; and others by name."""
    return Instants(*exchange, connecting=connecting, **others)  # type: ignore[arg-type,misc]


FINISHED = [
    Case(
        "a new connection over TLS",
        instants(0, 0.010, 0.200, 0.260, connecting=CONNECTED, sent=0.140),
        {"send": 10, "blocked": 10, "dns": 30, "connect": 90, "ssl": 50, "wait": 60, "receive": 60},
    ),
    Case(
        "a reused connection",
        instants(0, 0.010, 0.200, 0.260, sent=0.010),
        {"send": 10, "blocked": 0, "wait": 190, "receive": 60},
    ),
    Case(
        "a plain connection to an address",
        instants(
            0,
            0.001,
            0.020,
            0.030,
            connecting=connecting(queued=0.001, opened=0.004, connected=0.009),
            sent=0.009,
        ),
        {"send": 1, "blocked": 3, "connect": 5, "wait": 11, "receive": 10},
    ),
    Case(
        "a request that was held before its connection was asked for",
        instants(
            0,
            0.001,
            0.520,
            0.530,
            connecting=connecting(queued=0.501, opened=0.504, connected=0.509),
            sent=0.509,
        ),
        {"send": 1, "blocked": 503, "connect": 5, "wait": 11, "receive": 10},
    ),
    Case(
        "a request that was held, and then went out over a reused connection",
        instants(0, 0.001, 0.520, 0.530, sent=0.501),
        {"send": 1, "blocked": 500, "wait": 19, "receive": 10},
    ),
    Case(
        "a request whose head was held, so that its body was not read",
        instants(0, 0.350, 0.520, 0.530, released=0.301, sent=0.350),
        {"blocked": 301, "send": 49, "wait": 170, "receive": 10},
    ),
    Case(
        "a request that waited for a connection that another request accounts for",
        instants(0, 0.001, 0.520, 0.530, sent=0.401),
        {"send": 1, "blocked": 400, "wait": 119, "receive": 10},
    ),
    Case(
        "a response that an addon has made",
        instants(0, 0.001, 0.301, 0.301),
        {"send": 1, "blocked": 300, "receive": 0},
    ),
    Case(
        "a connection that was made before the request came, whose client was slow to begin TLS and to ask",
        instants(
            1.000,
            1.010,
            1.050,
            1.060,
            connecting=connecting(
                queued=0, opened=0.005, resolving=0.005, resolved=0.015, connected=0.035, securing=0.4, secured=0.5
            ),
            sent=1.010,
        ),
        {"blocked": 5 + 365 + 500, "dns": 10, "connect": 120, "ssl": 100, "send": 10, "wait": 40, "receive": 10},
    ),
    Case(
        "a request whose server is reached through a tunnel that is slow to open",
        instants(
            0,
            0.001,
            0.9,
            0.91,
            connecting=connecting(
                queued=0.001,
                opened=0.001,
                connected=0.011,
                tunnelling=0.011,
                tunnelled=0.511,
                securing_inside=0.511,
                secured_inside=0.611,
            ),
            sent=0.611,
        ),
        {"send": 1, "blocked": 0, "connect": 610, "ssl": 100, "wait": 289, "receive": 10},
    ),
    Case(
        "a tunnel through an upstream proxy that speaks TLS itself",
        instants(
            0,
            0.001,
            0.9,
            0.91,
            connecting=connecting(
                queued=0.001,
                opened=0.001,
                connected=0.011,
                securing=0.011,
                secured=0.111,
                tunnelling=0.111,
                tunnelled=0.511,
                securing_inside=0.511,
                secured_inside=0.611,
            ),
            sent=0.611,
        ),
        {"send": 1, "blocked": 0, "connect": 610, "ssl": 200, "wait": 289, "receive": 10},
    ),
    Case(
        "a request that is passed on as it comes: sending it counts from when there is a connection",
        instants(0, 1.0, 1.2, 1.3, connecting=connecting(queued=0.1, opened=0.1, connected=0.3), sent=0.3),
        {"blocked": 100, "connect": 200, "send": 700, "wait": 200, "receive": 100},
    ),
    Case(
        "a connection that another request had begun to make",
        instants(0, 0.001, 0.2, 0.3, connecting=connecting(queued=-0.3, opened=-0.2, connected=0.1), sent=0.1),
        {"send": 0, "blocked": 0, "connect": 100, "wait": 100, "receive": 100},
    ),
    Case(
        "a connection of which it was not seen how its making ended",
        instants(0, 0.001, 0.2, 0.3, connecting=connecting(queued=0.001, opened=0.001, securing=0.05), sent=0.1),
        {"send": 1, "blocked": 0, "connect": 99, "ssl": 50, "wait": 100, "receive": 100},
    ),
    Case(
        "a response that begins before the request has ended",
        instants(0, 0.8, 0.3, 1.0, sent=0),
        {"blocked": 0, "send": 300, "wait": 0, "receive": 700},
    ),
    Case(
        "a response that ends before the request has ended",
        instants(0, 0.8, 0.3, 0.5, sent=0),
        {"blocked": 0, "send": 300 + 300, "wait": 0, "receive": 200},
    ),
    Case(
        "a request whose first byte was not seen",
        instants(None, 0.1, 0.2, 0.3, sent=0.1),
        {"send": 100, "wait": 100, "receive": 100},
    ),
    Case("everything at once", instants(0, 0, 0, 0, sent=0), {"send": 0, "blocked": 0, "wait": 0, "receive": 0}),
    Case("an answer of the proxy to a CONNECT", instants(0, 0.001, None, 0.005), {"send": 1, "blocked": 4}),
    Case("a failure while the request is sent", instants(0, None, None, None, 0.7), {"send": 700}),
    Case("a failure while the request is held", instants(0, 0.1, None, None, 0.7), {"send": 100, "blocked": 600}),
    Case(
        "a failure while the response is awaited",
        instants(0, 0.1, None, None, 0.7, sent=0.1),
        {"send": 100, "blocked": 0, "wait": 600},
    ),
    Case(
        "a failure while the response is received",
        instants(0, 0.1, 0.5, None, 0.7, sent=0.1),
        {"send": 100, "blocked": 0, "wait": 400, "receive": 200},
    ),
    Case(
        "a failure in the queue",
        instants(0, 0.1, None, None, 0.7, connecting=connecting(queued=0.2)),
        {"send": 100, "blocked": 600},
    ),
    Case(
        "a failure to resolve the name",
        instants(0, 0.1, None, None, 0.7, connecting=connecting(queued=0.2, opened=0.3, resolving=0.3004)),
        {"send": 100, "blocked": 200, "dns": 400},
    ),
    Case(
        "a failure of TCP",
        instants(0, 0.1, None, None, 0.7, connecting=connecting(queued=0.2, opened=0.3, resolving=0.3, resolved=0.4)),
        {"send": 100, "blocked": 200, "dns": 100, "connect": 300},
    ),
    Case(
        "a connection that is refused at once",
        instants(0, 0.1, None, None, 0.1, connecting=connecting(queued=0.1, opened=0.1)),
        {"send": 100, "connect": 0},
    ),
    Case(
        "a failure of TLS",
        instants(0, 0.1, None, None, 0.7, connecting=connecting(queued=0.1, opened=0.1, connected=0.3, securing=0.3)),
        {"send": 100, "connect": 600, "ssl": 400},
    ),
    Case(
        "a tunnel that is refused",
        instants(0, 0.1, None, None, 0.7, connecting=connecting(queued=0.1, opened=0.1, connected=0.3, tunnelling=0.3)),
        {"send": 100, "connect": 600},
    ),
    Case(
        "a failure after the connection was made",
        instants(0, 0.010, None, None, 0.200, connecting=CONNECTED, sent=0.140),
        {"send": 10, "blocked": 10, "dns": 30, "connect": 90, "ssl": 50, "wait": 60},
    ),
    Case(
        "a capture that tells neither of the queue nor of the name",
        instants(
            0,
            0.010,
            0.200,
            0.260,
            connecting=connecting(opened=0.020, connected=0.090, securing=0.090, secured=0.140),
            sent=0.140,
        ),
        {"send": 10, "blocked": 10, "connect": 120, "ssl": 50, "wait": 60, "receive": 60},
    ),
    Case(
        "a capture that tells nothing of how its connection was made",
        instants(0, 0.010, 0.200, 0.260, connecting=Connecting(), sent=0.010),
        {"send": 10, "blocked": 0, "wait": 190, "receive": 60},
    ),
    Case(
        "a step that comes after the end",
        instants(0, 0.1, None, None, 0.2, connecting=connecting(queued=0.1, opened=0.15, connected=0.3)),
        {"send": 100, "blocked": 50, "connect": 50},
    ),
    Case(
        "offsets between whole milliseconds: each is rounded down, and so the phases add up",
        instants(0, 0.0019, 0.0038, 0.0057, sent=0.0019),
        {"send": 1, "blocked": 0, "wait": 2, "receive": 2},
    ),
]


@pytest.mark.parametrize("case", FINISHED, ids=lambda case: case.name)
def test_an_entry_that_has_ended_has_the_phases_of(case: Case) -> None:
    assert phases(case.seen) == case.expected
    assert total(case.seen) == span(case.seen)


UNFINISHED = [
    Case("nothing was seen", instants()),
    Case("the request has begun", instants(0)),
    Case("the request is complete", instants(0, 0.1), {"send": 100}),
    Case("the request is complete after its head was held", instants(0, 0.3, released=0.2), {"send": 100}),
    Case("the response has begun", instants(0, 0.1, 0.3, sent=0.1), {"send": 100, "blocked": 0, "wait": 200}),
    Case("an addon has answered", instants(0, 0.1, 0.3), {"send": 100, "blocked": 200}),
    Case(
        "the response has begun before the request is complete",
        instants(0, None, 0.3, sent=0.1),
        {"blocked": 100, "wait": 0},
    ),
    Case(
        "the response has begun over a new connection",
        instants(0, 0.010, 0.200, connecting=CONNECTED, sent=0.140),
        {"send": 10, "blocked": 10, "dns": 30, "connect": 90, "ssl": 50, "wait": 60},
    ),
    Case(
        "the request has begun over a connection that was there before",
        instants(0.3, connecting=connecting(queued=0, opened=0.1, connected=0.2)),
        {"connect": 100},
    ),
    Case(
        "TCP is being connected",
        instants(0, 0.1, connecting=connecting(queued=0.1, opened=0.2)),
        {"send": 100},
    ),
    Case(
        "TLS is being set up",
        instants(0, 0.1, connecting=connecting(queued=0.1, opened=0.2, connected=0.3, securing=0.3)),
        {"send": 100},
    ),
]


@pytest.mark.parametrize("case", UNFINISHED, ids=lambda case: case.name)
def test_an_entry_that_goes_on_has_only_the_phases_that_are_over_when(case: Case) -> None:
    assert phases(case.seen) == case.expected


def test_connect_dns_and_ssl_are_left_out_without_a_connection_of_its_own() -> None:
    assert phases(instants(0, 0.1, 0.2, 0.3, sent=0.1)).keys().isdisjoint({"connect", "dns", "ssl"})


# Any instants


def total(seen: Instants) -> int:
    """Return the sum of an entry's phases, in milliseconds."""
    found = phases(seen)
    return sum(found.get(phase, 0) for phase in HAR_PHASES)


def span(seen: Instants) -> int:
    """Return the time from an entry's start to its last event, in milliseconds."""
    return max(int(at * 1000) for at in (getattr(seen, step) for step in EXCHANGE) if at is not None)


offsets = st.floats(min_value=0, max_value=1e6) | st.integers(0, 10).map(lambda at: at / 1000)
any_offset = st.none() | offsets | st.floats(min_value=-1e6, max_value=0)
any_connecting = st.builds(Connecting, **dict.fromkeys(CONNECTING, any_offset))
ended = st.builds(
    Instants,
    *[st.none() | offsets] * 3,
    response_end=offsets,
    failed=st.none() | offsets,
    connecting=st.none() | any_connecting,
    released=st.none() | offsets,
    sent=st.none() | offsets,
) | st.builds(
    Instants,
    *[st.none() | offsets] * 4,
    failed=offsets,
    connecting=st.none() | any_connecting,
    released=st.none() | offsets,
    sent=st.none() | offsets,
)
any_number = st.none() | st.floats() | st.sampled_from([nan, inf, -inf, 1e308, -1e308, 1e13])
any_instants = st.builds(
    Instants,
    *[any_number] * 5,
    connecting=st.none() | st.builds(Connecting, **dict.fromkeys(CONNECTING, any_number)),
    released=any_number,
    sent=any_number,
)


@given(ended)
def test_the_phases_of_an_entry_that_has_ended_add_up_to_its_span_in_whatever_order_things_were_seen(
    seen: Instants,
) -> None:
    assert total(seen) == span(seen)


@given(st.lists(offsets, min_size=11, max_size=11).map(sorted))
def test_the_phases_of_the_common_order_are_differences_of_floored_offsets(at: list[float]) -> None:
    seen = instants(0, at[0], at[9], at[10], connecting=Connecting(*at[1:8]), sent=at[8])
    expected = {
        "send": floored(0, at[0]),
        "blocked": floored(at[0], at[2]) + floored(at[7], at[8]),
        "dns": floored(at[2], at[4]),
        "connect": floored(at[4], at[7]),
        "ssl": floored(at[6], at[7]),
        "wait": floored(at[8], at[9]),
        "receive": floored(at[9], at[10]),
    }
    assert phases(seen) == expected


def floored(start: float, end: float) -> int:
    return int(end * 1000) - int(start * 1000)


@given(any_instants)
@example(Instants(nan, inf, -inf, 1e308, None, Connecting(nan, inf)))
@example(Instants(1e12, 0, 1e12, 0, 1e12, Connecting(*[-1e12, 1e12] * 3)))
def test_whatever_was_seen_a_phase_is_a_whole_number_that_can_be_told_and_ssl_a_part_of_connect(seen: Instants) -> None:
    found = phases(seen)
    assert found.keys() <= {*HAR_PHASES, "ssl"}
    assert all(type(value) is int and 0 <= value < 2**64 for value in found.values())
    assert found.get("ssl", 0) <= found.get("connect", 0)
    assert "ssl" not in found or "connect" in found


@given(any_instants)
def test_a_phase_that_is_over_does_not_change_when_the_entry_ends(seen: Instants) -> None:
    going_on = msgspec.structs.replace(seen, response_end=None, failed=None)
    known = [at for at in (*(getattr(going_on, step) for step in EXCHANGE), *steps_of(seen)) if at is not None]
    last = max((at for at in known if abs(at) <= 1e12), default=0)
    going_on.failed = max(0, last) + 1
    after = phases(going_on)
    going_on.failed = None
    assert phases(going_on).items() <= after.items()


def steps_of(seen: Instants) -> list[float | None]:
    return [getattr(seen.connecting, step) for step in CONNECTING] if seen.connecting else []
