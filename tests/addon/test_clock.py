"""Two clocks, one of which can be set."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.clock import Now, Timeline, now

SINCE = Now(1_800_000_000.0, 5_000.0)

HOUR = 3600.0


def later(seconds: float, step: float = 0.0) -> Now:
    """Return the reading that follows `SINCE` after some seconds; the wall clock has been set by `step` in between."""
    return Now(SINCE.wall + seconds + step, SINCE.monotonic + seconds)


def test_both_clocks_are_read() -> None:
    before = time.time(), time.monotonic()
    read = now()
    assert before <= (read.wall, read.monotonic)
    assert read.wall <= time.time()
    assert read.monotonic <= time.monotonic()


@pytest.mark.parametrize("step", [0.0, HOUR, -HOUR, 2.0, -2.0])
def test_what_was_noted_after_the_clock_was_set_is_found(step: float) -> None:
    noted = SINCE.wall + 9.0 + step
    assert later(10.0, step).monotonic_of(noted, SINCE) == pytest.approx(SINCE.monotonic + 9.0)


@pytest.mark.parametrize("step", [0.0, HOUR, -HOUR, 20.0, -20.0])
def test_what_was_noted_before_the_clock_was_set_is_found(step: float) -> None:
    noted = SINCE.wall + 9.0
    assert later(10.0, step).monotonic_of(noted, SINCE) == pytest.approx(SINCE.monotonic + 9.0)


def test_of_two_instants_that_are_possible_the_later_one_counts() -> None:
    """The clock was set by less than what has passed: what is looked at has happened a little while ago."""
    noted = SINCE.wall + 9.9
    assert later(10.0, 3.0).monotonic_of(noted, SINCE) == pytest.approx(SINCE.monotonic + 9.9)
    assert later(10.0, -3.0).monotonic_of(noted - 3.0, SINCE) == pytest.approx(SINCE.monotonic + 9.9)


def test_clocks_that_drift_apart_were_not_set() -> None:
    drifted = later(1000.0, 0.05)
    assert drifted.monotonic_of(drifted.wall - 1.0, SINCE) == pytest.approx(drifted.monotonic - 1.0)


times = st.floats(0, 1e7)
steps = st.floats(-1e7, 1e7)


@given(times, times, steps)
def test_whatever_was_noted_lies_between_the_readings(passed: float, noted: float, step: float) -> None:
    at = later(passed, step)
    assert SINCE.monotonic <= at.monotonic_of(noted, SINCE) <= at.monotonic


def test_a_timeline_follows_the_wall_clock() -> None:
    timeline = Timeline(SINCE)
    assert [timeline.place(later(seconds)) for seconds in (0.0, 1.0, 5.0)] == [
        SINCE.wall,
        SINCE.wall + 1.0,
        SINCE.wall + 5.0,
    ]


def test_a_timeline_goes_on_when_the_clock_is_set_back_until_that_has_caught_up() -> None:
    timeline = Timeline(SINCE)
    timeline.place(later(10.0))
    assert timeline.place(later(11.0, -5.0)) == SINCE.wall + 11.0
    assert timeline.place(later(12.0, -5.0)) == SINCE.wall + 12.0
    assert timeline.place(later(13.0, 2.0)) == SINCE.wall + 15.0


@given(st.lists(st.tuples(times, steps)))
def test_a_timeline_never_runs_back(readings: list[tuple[float, float]]) -> None:
    timeline = Timeline(SINCE)
    placed = [timeline.place(later(seconds, step)) for seconds, step in readings]
    assert placed == sorted(placed)
