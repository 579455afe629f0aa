"""What was not sent because the child did not keep up: whole entries, and what is missing of those it knows.

Pure. An entry of which anything is missing is cut there: none of its later records is sent either.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from rpc import records


class Gap:
    """Where records are dropped. While it `is_open`, all are; afterwards those of the entries that lack some."""

    def __init__(self) -> None:
        self.is_open = False
        self._dropped: set[str] = set()
        self._cut: list[str] = []
        self._missed = 0
        self._since = 0.0

    def open(self) -> None:
        """Begin to drop."""
        self.is_open = True
        self._since = time.time()

    def drops(self, record: records.Captured) -> bool:
        """Return whether a record is dropped, and count what it belongs to."""
        if not self.is_open and not self._dropped:
            return False
        entry: str | None = getattr(record, "entry", None)
        if entry is None:
            # Which port the proxy listens on is told once. Connections are told anew.
            return self.is_open and not isinstance(record, records.ListenerChanged)
        if not self.is_open and entry not in self._dropped:
            return False
        self._drop(record, entry)
        return True

    def _drop(self, record: records.Captured, entry: str) -> None:
        if isinstance(record, records.EntryStarted):
            self._missed += 1
        elif entry not in self._dropped:
            self._cut.append(entry)
        if _is_last(record):
            self._dropped.discard(entry)
        else:
            self._dropped.add(entry)

    @property
    def entries(self) -> int:
        """How many entries are missing or incomplete since it opened."""
        return self._missed + len(self._cut)

    def close(self, connections: Iterable[int]) -> records.Gap:
        """End it; return what the child is told. `connections` are those that are open now."""
        told = records.Gap(self._since, time.time(), self._missed, tuple(self._cut), tuple(connections))
        self.is_open = False
        self._missed = 0
        self._cut = []
        return told


def _is_last(record: records.Captured) -> bool:
    match record:
        case records.EntryEnded() | records.EntryFailed():
            return True
        case records.ResponseFinished():
            return record.ended
        case _:
            return False
