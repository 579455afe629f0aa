"""What a client is sent unasked: texts wait here, within a bound, until its connection takes them.

A client that does not read fills its own outlet and nobody else's. Nothing here knows what the texts mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from rpc.records import Limits
from rpc.turns import Turns

MAX_WAITING = Limits().unread
"""Characters that wait for one client at the most."""

TEXTS_PER_TURN = 64
"""Texts that are sent before others get their turn, if that does not take long."""


class Outlet:
    """The texts for one client, which `send` takes one after another, waiting as long as the client does not read.

    Texts may be put at any time and leave in order. `hold` keeps them back until `release`.
    """

    def __init__(self, send: Callable[[str], Awaitable[None]], *, limit: int = MAX_WAITING) -> None:
        self.on_close: list[Callable[[], None]] = []
        self._send = send
        self._limit = limit
        self._waiting: deque[str] = deque()
        self._size = 0
        self._is_held = False
        self._is_closed = False
        self._sending: asyncio.Task[None] | None = None
        self._on_empty: list[Callable[[], None]] = []

    def put(self, text: str) -> bool:
        """Add a text; return whether there was room for it. An empty outlet takes a text of any length."""
        if self._is_closed or (self._waiting and self._size + len(text) > self._limit):
            return False
        self._waiting.append(text)
        self._size += len(text)
        self._start()
        return True

    def hold(self) -> None:
        """Let nothing out until `release`: an answer has to come first."""
        self._is_held = True

    def release(self) -> None:
        """Go on after `hold`."""
        self._is_held = False
        self._start()

    def when_empty(self, call: Callable[[], None]) -> None:
        """Call once when everything that waits has been sent, or the client is gone; it may put more."""
        self._on_empty.append(call)
        self._start()

    async def emptied(self) -> None:
        """Wait until everything has been sent, or the client is gone."""
        if not self._is_closed:
            emptied = asyncio.Event()
            self.when_empty(emptied.set)
            await emptied.wait()

    def close(self) -> None:
        """Take in that the client is gone. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()
        calls, self._on_empty, self.on_close = [*self._on_empty, *self.on_close], [], []
        for call in calls:
            call()

    def _start(self) -> None:
        if self._sending is None and not self._is_held and not self._is_closed and (self._waiting or self._on_empty):
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        turns = Turns(TEXTS_PER_TURN)
        try:
            while self._has_next():
                text = self._waiting.popleft()
                await self._send(text)
                self._size -= len(text)
                await turns.step()
        finally:
            self._sending = None

    def _has_next(self) -> bool:
        if self._is_held:
            return False
        while not self._waiting and self._on_empty:
            self._on_empty.pop(0)()
        return bool(self._waiting)
