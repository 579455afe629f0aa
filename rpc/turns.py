"""Turns on the event loop: work that takes long stops now and then, so that others are answered meanwhile."""

from __future__ import annotations

import asyncio
from time import monotonic

from rpc.shares import rest

TURN_SECONDS = 0.003
"""How long one piece of work may keep the event loop before it gives the others their turn."""


class Turns:
    """Gives other tasks their turn after so many steps, or as soon as the steps have taken `TURN_SECONDS`.

    A client that takes more than its share rests then.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._begin()

    def _begin(self) -> None:
        self._left = self._steps
        self._end = monotonic() + TURN_SECONDS

    async def step(self) -> None:
        """Be called after each step."""
        self._left -= 1
        if self._left <= 0 or monotonic() >= self._end:
            await asyncio.sleep(rest())
            self._begin()
