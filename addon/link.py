"""The other end of the pipe: starts the child, writes frames to it, reads its replies, and ends it.

It never blocks the loop. While the child is behind, `room` is something to wait for.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable

from addon.outbox import Outbox
from rpc import records

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.005
"""How long records may gather before they are written: fewer, larger writes cost the proxy less."""

START_SECONDS = 30.0
"""How long the child may take to come up."""

END_SECONDS = 30.0
"""How long the child may take to store what it has been sent, when the proxy ends."""

_ending: set[asyncio.Task[None]] = set()
"""Children that are on their way out: a new one may need the port that one of them has."""


class ChildError(Exception):
    """The child cannot serve; the sentence is for the user."""


class Link:
    """One child process.

    `on_process` is called with each answer about a client's process, `on_gathered` before what has gathered is written.
    """

    def __init__(self) -> None:
        self.on_process: Callable[[int, records.Process | None], None] = lambda _key, _process: None
        self.on_gathered: Callable[[], None] = lambda: None
        self._outbox = Outbox()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[int] | None = None
        self._has_room: asyncio.Future[None] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def start(self, configuration: records.Configuration) -> int:
        """Start the child and return the port of its endpoint. Raises `ChildError`."""
        if _ending:
            await asyncio.wait(_ending)
        self._ready = asyncio.get_running_loop().create_future()
        # -P: what lies in the working folder must not be taken for a module.
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "rpc"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        self._write(records.encode(records.Frame(0, [configuration])))
        try:
            port = await asyncio.wait_for(asyncio.shield(self._ready), START_SECONDS)
        except TimeoutError:
            message = f"The recorder's process did not come up within {START_SECONDS:.0f} seconds."
            raise ChildError(message) from None
        self.flush()
        return port

    def send(self, record: records.Captured, size: int = 0) -> None:
        """Send a record that carries `size` bytes of a body, together with others that come soon."""
        if self._is_closed:
            return
        self._outbox.add(record, size)
        if self._outbox.is_ripe:
            self._write_gathered()
        else:
            self.gather()

    def gather(self) -> None:
        """Write what has gathered in a little while."""
        if self._gathering is None and not self._is_closed:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what has gathered, and what `on_gathered` has to add to it."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self.on_gathered()
        self._write_gathered()

    def _write_gathered(self) -> None:
        # Until the child is ready, what it should know waits in the outbox.
        if self._ready is not None and self._ready.done() and (frame := self._outbox.take()) is not None:
            self._write(frame)

    def room(self) -> Awaitable[None] | None:
        """Return what to wait for before sending more; null if there is no need."""
        if self._is_closed or not self._outbox.is_full:
            return None
        if self._has_room is None:
            self._has_room = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._has_room)

    def end(self) -> asyncio.Task[None]:
        """Send what is left, end the child and return the task that is done when it is gone. Never called twice."""
        task = asyncio.create_task(self._end())
        _ending.add(task)
        task.add_done_callback(_ending.discard)
        return task

    async def _end(self) -> None:
        self.flush()
        self._close()
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            logger.warning("The recorder's process did not end within %.0f seconds and was killed.", END_SECONDS)
            process.kill()
            await process.wait()

    def _write(self, frame: bytes) -> None:
        if self._process is not None and self._process.stdin is not None and not self._is_closed:
            self._process.stdin.write(frame)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while True:
                length = await process.stdout.readexactly(records.LENGTH_BYTES)
                self._take_reply(records.decode_reply(await process.stdout.readexactly(int.from_bytes(length))))
        except asyncio.IncompleteReadError:
            self._child_is_gone()

    def _take_reply(self, reply: records.Reply) -> None:
        match reply:
            case records.Stored(number):
                self._acknowledge(number)
            case records.ProcessFound(key, process):
                self.on_process(key, process)
            case records.Logged(level, message):
                logger.log(level, message)
            case records.Ready(port) if self._ready:
                self._ready.set_result(port)
            case records.Failed(message) if self._ready:
                self._ready.set_exception(ChildError(message))

    def _acknowledge(self, number: int) -> None:
        self._outbox.acknowledge(number)
        if self._has_room is not None and not self._outbox.is_full:
            self._release()

    def _release(self) -> None:
        if self._has_room is not None:
            self._has_room.set_result(None)
            self._has_room = None

    def _child_is_gone(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ChildError("The recorder's process ended while it was starting."))
        elif not self._is_closed:
            logger.error("The recorder's process is gone: traffic goes on, but is not recorded any more.")
        self._close()

    def _close(self) -> None:
        self._is_closed = True
        self._release()
