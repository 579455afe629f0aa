"""The other end of the pipe: keeps a child running, writes frames to it, reads its replies, and ends it.

It never blocks the loop. While the child is behind, `room` is something to wait for; if it stays behind, records are
dropped and counted, so that traffic goes on. A child that dies is replaced by another one, on the same port, token and
store, which is sent again what its predecessor has not acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from msgspec import structs

from addon.faults import FAULTS
from addon.gap import Gap
from addon.outbox import Buffer, Outbox, Written
from addon.pipe import Pipe, opened
from rpc import records

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.005
"""How long records gather before they are written."""

APART_SECONDS = 0.01
"""How long after the last time records are written again: what comes steadily goes in fewer, larger writes. Each wakes
the child, which costs the proxy more than all the rest of telling it a small record.
"""

START_SECONDS = 30.0
"""How long the child may take to come up."""

PATIENCE_SECONDS = 5.0
"""How long hooks wait for a child that does not keep up before records are dropped."""

RESTART_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""How long to wait before each attempt to replace a child; they begin anew with one that works."""

STEADY_SECONDS = 10.0
"""After how long a child works, even if it was sent nothing."""

END_SECONDS = 30.0
"""How long the child may take to store what it has been sent, when the proxy ends."""

KILL_SECONDS = 2.0
"""How long a child that was killed may take to be gone: one that waits for a disk cannot be."""

_ending: set[asyncio.Task[None]] = set()
"""Children that are on their way out: a new one may need the port that one of them has."""


class ChildError(Exception):
    """The child cannot serve; the sentence is for the user."""


class Link:
    """One child process at a time.

    `on_process` is called with each answer about a client's process, `on_gathered` before what has gathered is written;
    `on_gap`, when records were dropped, returns the keys of the client connections that are open, each of which must be
    told anew before it matters.
    """

    def __init__(self) -> None:
        self.on_process: Callable[[int, records.Process | None], None] = lambda _key, _process: None
        self.on_gathered: Callable[[], None] = lambda: None
        self.on_gap: Callable[[], Iterable[int]] = lambda: ()
        self._outbox = Outbox()
        self._gap = Gap()
        self._configuration: records.Configuration | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._pipe: Pipe | None = None
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[int] | None = None
        self._has_room: asyncio.Future[None] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._attempts = 0
        self._takes_frames = False
        self._is_ending = False
        self._is_closed = False
        self._flushed = 0.0

    async def start(self, configuration: records.Configuration) -> int:
        """Start the child and return the port of its endpoint. Raises `ChildError`."""
        if _ending:
            await asyncio.wait(_ending)
        if self._is_ending:
            message = "Recording has ended before it began."
            raise ChildError(message)
        self._configuration = configuration
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._keeping = asyncio.create_task(self._keep_running(started))
        return await started

    def send(self, record: records.Captured, size: int = 0, behind: Sequence[Buffer] = ()) -> None:
        """Send a record that carries `size` bytes of a body, together with others that come soon."""
        if self._is_closed or self._gap.drops(record):
            return
        self._outbox.add(record, size, behind)
        if self._outbox.is_ripe:
            self._write_gathered()
        elif self._gathering is not None and self._gathering.when() <= asyncio.get_running_loop().time():
            self.flush()  # a busy loop is late to do so
        else:
            self.gather()

    def gather(self) -> None:
        """Write what has gathered in a little while."""
        if self._gathering is None and not self._is_closed:
            delay = max(GATHER_SECONDS, self._flushed + APART_SECONDS - time.monotonic())
            self._gathering = asyncio.get_running_loop().call_later(delay, self.flush)

    def flush(self) -> None:
        """Write what has gathered, and what `on_gathered` has to add to it."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._flushed = time.monotonic()
        self.on_gathered()
        self._write_gathered()

    def _write_gathered(self) -> None:
        # While there is no child to take it, it is kept in the outbox.
        if (frame := self._outbox.take()) is not None and self._takes_frames:
            self._write(frame)

    def room(self) -> Awaitable[None] | None:
        """Return what to wait for before sending more; null if there is no need."""
        if self._is_closed or self._gap.is_open or not self._outbox.is_full:
            return None
        if self._has_room is None:
            loop = asyncio.get_running_loop()
            self._has_room = loop.create_future()
            self._patience = loop.call_later(PATIENCE_SECONDS, self._begin_gap)
        return asyncio.shield(self._has_room)

    def end(self) -> asyncio.Task[None]:
        """Send what is left, end the child and return the task that is done when it is gone. Never called twice."""
        task = asyncio.create_task(self._end())
        _ending.add(task)
        task.add_done_callback(_ending.discard)
        return task

    # Processes

    async def _keep_running(self, started: asyncio.Future[int]) -> None:
        assert self._configuration is not None
        try:
            port = await self._launch(self._configuration)
        except ChildError as error:
            self._close()
            started.set_exception(error)
            return
        # Another child gets the port that the first one found.
        self._configuration = structs.replace(self._configuration, port=port)
        started.set_result(port)
        while await self._has_died() and await self._has_replacement():
            pass
        self._close()

    async def _launch(self, configuration: records.Configuration) -> int:
        """Start a child, send it what it is to know, and return its port. Raises `ChildError`."""
        self._ready = asyncio.get_running_loop().create_future()
        process, self._pipe = await _start_process()
        self._process = process
        self._reading = asyncio.create_task(self._read(process))
        self._write((records.encode(records.Frame(0, [configuration])),))
        try:
            port = await asyncio.wait_for(self._ready, START_SECONDS)
        except TimeoutError:
            await self._kill()
            message = f"The recorder's process did not come up within {START_SECONDS:.0f} seconds."
            raise ChildError(message) from None
        except ChildError:
            await self._kill()
            raise
        for frame in self._outbox.unacknowledged():
            self._write(frame)
        self._takes_frames = True
        self.flush()
        if self._is_ending:
            self._end_pipe()
        return port

    async def _has_died(self) -> bool:
        """Wait for the child's end; return whether it was too early."""
        assert self._process is not None
        assert self._reading is not None
        began = time.monotonic()
        await self._reading
        code = await self._process.wait()
        self._end_pipe()
        if time.monotonic() > began + STEADY_SECONDS:
            self._attempts = 0
        if self._is_ending and self._outbox.is_empty:
            return False
        logger.warning("The recorder's process is gone (exit code %d); another one takes its place.", code)
        return True

    async def _has_replacement(self) -> bool:
        """Start another child; return whether that was possible."""
        assert self._configuration is not None
        reason = "It ends again and again."
        while self._attempts < len(RESTART_SECONDS):
            await asyncio.sleep(RESTART_SECONDS[self._attempts])
            self._attempts += 1
            try:
                await self._launch(self._configuration)
            except ChildError as error:
                reason = str(error)
            else:
                return True
        logger.error("The recorder's process is gone: traffic goes on, but is not recorded any more. %s", reason)
        return False

    async def _end(self) -> None:
        if self._gap.is_open:
            self._end_gap()
        self.flush()
        self._is_ending = True
        self._release()
        if self._takes_frames:
            self._end_pipe()
        if self._keeping is not None and not await _is_done(self._keeping, END_SECONDS):
            logger.warning("The recorder's process did not end within %.0f seconds and was killed.", END_SECONDS)
            self._keeping.cancel()
            await self._kill()
        self._close()
        await self._remove_leftovers()

    def _end_pipe(self) -> None:
        """Let the child know that nothing more will come."""
        if self._pipe is not None:
            self._pipe.close()
        self._takes_frames = False

    async def _kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._end_pipe()
        await _is_done(asyncio.create_task(self._process.wait()), KILL_SECONDS)

    async def _remove_leftovers(self) -> None:
        """Remove what a child could not remove itself: its private folder, and its run file."""
        if self._configuration is not None:
            await asyncio.to_thread(_remove_leftovers, self._configuration)

    # The pipe

    def _write(self, frame: Written) -> None:
        if self._pipe is not None:
            self._pipe.writelines(frame)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                length = await process.stdout.readexactly(records.LENGTH_BYTES)
                reply = await process.stdout.readexactly(int.from_bytes(length))
                try:
                    self._take_reply(records.decode_reply(reply))
                except Exception as error:
                    FAULTS.count("taking in a reply", error)
        self._takes_frames = False
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ChildError("The recorder's process ended while it was starting."))

    def _take_reply(self, reply: records.Reply) -> None:
        match reply:
            case records.Stored(number):
                self._acknowledge(number)
            case records.ProcessFound(key, process):
                self.on_process(key, process)
            case records.Logged(level, message):
                logger.log(level, message)
            case records.Ready(port) if self._ready and not self._ready.done():
                self._ready.set_result(port)
            case records.Failed(message) if self._ready and not self._ready.done():
                self._ready.set_exception(ChildError(message))

    def _acknowledge(self, number: int) -> None:
        if self._outbox.acknowledge(number):
            self._attempts = 0
        if not self._outbox.is_full:
            self._release()
            if self._gap.is_open:
                self._end_gap()

    def _release(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._has_room is not None:
            self._has_room.set_result(None)
            self._has_room = None

    def _begin_gap(self) -> None:
        logger.error(
            "The recorder's process has not kept up for %.0f seconds: traffic goes on, but is not recorded for now.",
            PATIENCE_SECONDS,
        )
        self._gap.open()
        self._release()

    def _end_gap(self) -> None:
        logger.warning("Recording goes on; %d entries are missing or incomplete.", self._gap.entries)
        self.send(self._gap.close(self.on_gap()))

    def _close(self) -> None:
        self._is_closed = True
        self._takes_frames = False
        self._release()


async def _is_done(task: asyncio.Task[object] | asyncio.Task[None] | asyncio.Task[int], seconds: float) -> bool:
    """Wait for a task, which goes on if it takes too long; return whether it is done."""
    done, _ = await asyncio.wait({task}, timeout=seconds)
    return bool(done)


async def _start_process() -> tuple[asyncio.subprocess.Process, Pipe]:
    """Start a child and return what to write to it with."""
    # -P: what lies in the working folder must not be taken for a module.
    command = (sys.executable, "-P", "-m", "rpc")
    with opened() as (reading_end, pipe):
        process = await asyncio.create_subprocess_exec(*command, stdin=reading_end, stdout=asyncio.subprocess.PIPE)
    if pipe is None:
        assert process.stdin is not None
        pipe = process.stdin
    return process, pipe


def _remove_leftovers(configuration: records.Configuration) -> None:
    if configuration.is_temporary:
        shutil.rmtree(Path(configuration.store).parent, ignore_errors=True)
    if configuration.access.run_file is not None:
        with contextlib.suppress(OSError):
            Path(configuration.access.run_file).unlink(missing_ok=True)
