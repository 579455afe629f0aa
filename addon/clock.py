"""Two clocks, read together: the wall clock says when something was, the monotonic one how long it took."""

from __future__ import annotations

import time
from typing import NamedTuple

STEP_SECONDS = 0.1
"""What the two clocks may drift apart unnoticed; more than that in a connection's life, and the wall clock was set."""


class Now(NamedTuple):
    """One instant on both clocks, in seconds."""

    wall: float
    monotonic: float

    def monotonic_of(self, wall: float, since: Now) -> float:
        """Return when, after `since` and until now, the wall clock showed `wall`; on the monotonic clock.

        The wall clock may have been set in between. So `wall` is read as the clock goes now and as it went at `since`;
        what is looked at has happened a little while ago, and so the later of the instants that are possible is right.
        """
        at = self.monotonic - (self.wall - wall)
        before = since.monotonic + (wall - since.wall)
        if abs(at - before) > STEP_SECONDS:
            at = max((each for each in (at, before) if since.monotonic <= each <= self.monotonic), default=at)
        return min(max(at, since.monotonic), self.monotonic)


def now() -> Now:
    """Read both clocks."""
    return Now(time.time(), time.monotonic())


class Timeline:
    """When things began that come one after the other, on the wall clock: it follows that clock, but never back."""

    def __init__(self, start: Now) -> None:
        self._latest = start

    def place(self, at: Now) -> float:
        """Return the wall-clock time of an instant that is not before those placed earlier."""
        latest = self._latest
        if at.wall < latest.wall:
            passed = max(0.0, at.monotonic - latest.monotonic)
            at = Now(latest.wall + passed, latest.monotonic + passed)
        self._latest = at
        return at.wall
