"""Which processes are looked into first for a client's socket: those that were right before, then the new ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

RECENT = 8
"""Owners that are remembered."""

NEW_SECONDS = 2.0
"""How long a process counts as new: it may be seen before it has become the program that connects."""

MOST_NEW = 64
"""New processes that are looked into at the most."""


class Candidates:
    """The order of the processes. For one thread."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._first_seen = dict.fromkeys(pids, -NEW_SECONDS)
        self._recent: dict[int, None] = {}

    def recent(self) -> Iterator[int]:
        """Return the owners that were found last, the latest first."""
        return reversed(tuple(self._recent))

    def new(self, pids: Iterable[int], now: float | None = None) -> list[int]:
        """Return those of all processes that have begun a short time ago, the newest first."""
        now = time.monotonic() if now is None else now
        known = self._first_seen
        self._first_seen = {pid: known.get(pid, now) for pid in pids}
        # Ids count up until they start over, so that among those of one time the higher is the newer.
        new = [(at, pid) for pid, at in self._first_seen.items() if at > now - NEW_SECONDS and pid not in self._recent]
        return [pid for _, pid in sorted(new, reverse=True)[:MOST_NEW]]

    def found(self, pid: int) -> None:
        """Take in that this process owned a socket."""
        self._recent.pop(pid, None)
        self._recent[pid] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
