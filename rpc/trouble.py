"""Trouble with the store: when to try again, when to let go of what cannot be written, and what the log says of it."""

from __future__ import annotations

import logging
import time

from rpc.store_format import StoreError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How long to leave a store alone after it failed."""

HOLD_SECONDS = 2.0
"""How long to hold what cannot be written: another process may only be in the way."""


class Trouble:
    """Whether writing works, and what was lost that the store does not know of yet.

    `dropped` entries are missing or incomplete, the first and the last at these Unix times.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.since: float | None = None
        self.until: float | None = None
        self._error: StoreError | None = None
        self._began = self._failed = 0.0
        self._is_told = False
        self._let_go = 0

    @property
    def is_over(self) -> bool:
        """Whether writing works."""
        return self._error is None

    @property
    def is_left_alone(self) -> bool:
        """Whether it is too early to try again."""
        return not self.is_over and time.monotonic() < self._failed + RETRY_SECONDS

    @property
    def is_lasting(self) -> bool:
        """Whether what cannot be written should be let go."""
        return not self.is_over and self._failed >= self._began + HOLD_SECONDS

    def fail(self, error: StoreError) -> None:
        """Take in that writing has failed."""
        self._failed = time.monotonic()
        if self.is_over:
            self._began = self._failed
        self._error = error

    def drop(self, entries: int, since: float | None = None, until: float | None = None) -> None:
        """Count entries that are missing or incomplete, now or in a span of Unix time."""
        self.dropped += entries
        self.since = self.since or since or time.time()
        self.until = until or time.time()

    def let_go(self, entries: int) -> None:
        """Count entries that could not be written; the log hears of the first time."""
        if entries:
            self.drop(entries)
        self._let_go += entries
        if not self._is_told:
            self._is_told = True
            logger.error("Recording has stopped until it can go on; traffic is not affected. %s", self._error)

    def succeed(self) -> None:
        """Take in that writing works, and that the store knows of everything that was lost."""
        if self._is_told:
            logger.warning("Recording goes on; %d entries are missing or incomplete.", self._let_go)
        self.dropped, self.since, self.until = 0, None, None
        self._error = None
        self._is_told = False
        self._let_go = 0
