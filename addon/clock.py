"""Two clocks, read together: the wall clock says when something was, the monotonic one how long it took."""

from __future__ import annotations

import time
from typing import NamedTuple


class Now(NamedTuple):
    """One instant on both clocks, in seconds."""

    wall: float
    monotonic: float

    def monotonic_of(self, wall: float) -> float:
        """Return when the wall clock showed `wall`, a little while ago, on the monotonic clock."""
        return self.monotonic - max(0.0, self.wall - wall)


def now() -> Now:
    """Read both clocks."""
    return Now(time.time(), time.monotonic())
