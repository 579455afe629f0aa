from __future__ import annotations

import pytest

from rpc.failures import FORGIVING_SECONDS, FREE_FAILURES, MAX_ADDRESSES, PAUSE_SECONDS, Failures

ADDRESS = "192.0.2.1"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def failed(times: int, address: str = ADDRESS, clock: Clock | None = None) -> Failures:
    failures = Failures(clock or Clock())
    assert [failures.pause(address) for _ in range(times)].count(0) == min(times, FREE_FAILURES)
    return failures


def test_the_first_failures_are_answered_at_once_and_further_ones_slowly() -> None:
    failures = failed(FREE_FAILURES)
    assert failures.pause(ADDRESS) == PAUSE_SECONDS


def test_another_address_is_not_affected() -> None:
    assert failed(FREE_FAILURES + 1).pause("192.0.2.2") == 0


@pytest.mark.parametrize("failures_before", [FREE_FAILURES, 1000])
def test_failures_are_forgiven_with_time_however_many_there_were(failures_before: int) -> None:
    clock = Clock()
    failures = failed(failures_before, clock=clock)
    clock.now += 2 * FORGIVING_SECONDS
    assert failures.pause(ADDRESS) == 0
    clock.now += (FREE_FAILURES + 2) * FORGIVING_SECONDS
    assert [failures.pause(ADDRESS) for _ in range(FREE_FAILURES)] == [0] * FREE_FAILURES


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:1"), ("fe80::1%eth0", "fe80::2%eth0"), ("::ffff:192.0.2.1", "192.0.2.1")],
)
def test_addresses_that_one_client_can_choose_from_count_as_one(one: str, other: str) -> None:
    assert failed(FREE_FAILURES, one).pause(other) == PAUSE_SECONDS


def test_networks_are_told_apart() -> None:
    assert failed(FREE_FAILURES, "2001:db8:0:1::1").pause("2001:db8:0:2::1") == 0


def test_addresses_that_failed_long_ago_are_forgotten_first() -> None:
    failures = failed(FREE_FAILURES)
    for number in range(MAX_ADDRESSES):
        failures.pause(f"198.18.{number // 256}.{number % 256}")
    assert failures.pause(ADDRESS) == 0


def test_what_is_no_address_has_failures_of_its_own() -> None:
    assert failed(FREE_FAILURES, "").pause("") == PAUSE_SECONDS
