"""A wall clock and a monotonic clock that only tests move: what a real machine's clocks do when they are set."""

from __future__ import annotations

import pytest


class FakeTime:
    """Stands for the module `time`."""

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 5_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def time(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def pass_by(self, seconds: float) -> float:
        """Let time pass, and return what the wall clock shows then, as mitmproxy would note it."""
        self._wall += seconds
        self._monotonic += seconds
        return self._wall

    def set_wall(self, step: float) -> None:
        """Set the wall clock forward or, with a negative step, back."""
        self._wall += step

    def put_in_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let recording read these clocks."""
        for module in ("clock", "servers", "transactions", "resolver"):
            monkeypatch.setattr(f"addon.{module}.time", self)
