"""How much of the processor each client takes, and who rests so that the proxy does not have to wait for a processor.

As long as there are processors to spare, everybody may work as much as they like. When there are not, this process is
interrupted by others, of which the proxy is one; then the clients that work without a pause rest, so that they take a
share of one processor together. A client that asks now and then never rests.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from time import monotonic, thread_time
from typing import Any

SHARE = 0.2
"""What clients without a pause may take of one processor, all together, while there is none to spare."""

FREE_SECONDS = 0.05
"""Work of a client that is not counted, and is forgiven with time."""

MAX_REST_SECONDS = 0.5
"""How long a client rests at once."""

MEMORY_SECONDS = 0.25
"""For how long an interruption says that there is no processor to spare."""

if sys.platform == "win32":

    def _interruptions() -> int:
        return 0
else:
    from resource import RUSAGE_SELF, getrusage

    _WHO = getattr(__import__("resource"), "RUSAGE_THREAD", RUSAGE_SELF)

    def _interruptions() -> int:
        """Return how often the system has taken the processor from this thread, or process, for another one."""
        return getrusage(_WHO).ru_nivcsw


class Processors:
    """Whether there are processors to spare, as far as this thread can tell."""

    def __init__(self) -> None:
        self._seen = 0
        self._busy_until = 0.0

    def are_busy(self, now: float) -> bool:
        """Return whether this thread was interrupted a moment ago. To be asked often while it works."""
        if (count := _interruptions()) != self._seen:
            self._seen = count
            self._busy_until = now + MEMORY_SECONDS
        return now < self._busy_until


PROCESSORS = Processors()
_working_without_a_pause: set[Share] = set()


class Share:
    """What one client takes: the processor's seconds that its work has taken, less what is forgiven."""

    def __init__(self) -> None:
        self._debt = 0.0
        self._paid = monotonic()
        self._began: float | None = None

    def begin(self) -> None:
        """Take in that work begins, or goes on."""
        self._began = thread_time()

    def end(self) -> None:
        """Take in that it is interrupted, or done."""
        if self._began is not None:
            self._debt += thread_time() - self._began
            self._began = None

    def leave(self) -> None:
        """Take in that the client is gone."""
        _working_without_a_pause.discard(self)

    def rest(self) -> float:
        """Return how many seconds the client is to rest now. Its work may be under way."""
        if self._began is not None:
            self.end()
            self.begin()
        now = monotonic()
        share = SHARE / max(len(_working_without_a_pause | {self}), 1)
        self._debt = max(self._debt - (now - self._paid) * share, 0.0)
        self._paid = now
        if self._debt <= FREE_SECONDS:
            _working_without_a_pause.discard(self)
            return 0.0
        if not PROCESSORS.are_busy(now):
            self._debt = FREE_SECONDS
            return 0.0
        _working_without_a_pause.add(self)
        return min((self._debt - FREE_SECONDS) / share, MAX_REST_SECONDS)


_current: ContextVar[Share | None] = ContextVar("share", default=None)


def rest() -> float:
    """Return how many seconds the client is to rest for whom the present task works."""
    return 0.0 if (share := _current.get()) is None else share.rest()


class Counted[Result]:
    """Awaits a coroutine, and counts the time that it works, not that it waits, for a client's share."""

    def __init__(self, work: Coroutine[Any, Any, Result], share: Share) -> None:
        self._work = work
        self._share = share

    def __await__(self) -> Generator[Any, Any, Result]:
        """Await it."""
        token = _current.set(self._share)
        try:
            return (yield from self._steps())
        finally:
            _current.reset(token)

    def _steps(self) -> Generator[Any, Any, Result]:
        step, given = self._work.send, None
        while True:
            self._share.begin()
            try:
                awaited = step(given)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            finally:
                self._share.end()
            try:
                step, given = self._work.send, (yield awaited)
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as error:
                step, given = self._work.throw, error
