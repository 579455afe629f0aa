"""A bar on the terminal for work that takes long. Where standard error is no terminal, nothing is written."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

WIDTH = 30
"""Characters of the bar."""

REDRAW_SECONDS = 0.1

CLEAR_LINE = "\r\x1b[K"


class Progress:
    """A bar that is there as long as this is entered. `total` is what has to be done, in units of the caller's."""

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = self._stream.isatty()
        self._drawn = float("-inf")

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_shown:
            self._stream.write(CLEAR_LINE)
            self._stream.flush()

    def advance(self, amount: int) -> None:
        """Note that so much more is done."""
        self._done += amount
        if self._is_shown and time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw()

    def _draw(self) -> None:
        if not self._is_shown:
            return
        self._drawn = time.monotonic()
        share = min(1.0, self._done / self._total) if self._total else 0.0
        bar = ("#" * round(share * WIDTH)).ljust(WIDTH, ".")
        self._stream.write(f"{CLEAR_LINE}{self._label} [{bar}] {share:4.0%}")
        self._stream.flush()
