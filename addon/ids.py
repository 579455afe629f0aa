"""Ids: ULIDs that sort in the order in which they were minted, even when the clock is set back."""

from __future__ import annotations

import time

from ulid import ULID


class _Clock:
    """The wall clock in milliseconds; it never goes back."""

    def __init__(self) -> None:
        self._latest = 0

    def __call__(self) -> int:
        self._latest = max(self._latest, time.time_ns() // 1_000_000)
        return self._latest


_clock = _Clock()


def new_id() -> str:
    """Return a new ULID: 26 upper-case Crockford characters."""
    return str(ULID.from_timestamp(_clock()))
