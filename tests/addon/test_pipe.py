from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

import pytest

from addon.pipe import PosixPipe

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these pipes are not for Windows")

LARGE = bytes(range(256)) * 16_384
"""More than a pipe holds."""


def run(scenario: Callable[[PosixPipe, int], Awaitable[None]]) -> None:
    """Run a scenario with a pipe and the descriptor of its reading end."""

    async def with_pipe() -> None:
        reading_end, writing_end = os.pipe()
        async with asyncio.timeout(60):
            await scenario(PosixPipe(writing_end), reading_end)

    asyncio.run(with_pipe())


def read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb") as end:
        return end.read()


def test_pieces_arrive_in_order_however_much_the_pipe_holds() -> None:
    async def scenario(pipe: PosixPipe, reading_end: int) -> None:
        pipe.writelines([b"first ", memoryview(b"second ")])
        pipe.writelines([LARGE, b"", b"third "])
        for _ in range(200):
            pipe.writelines([b"small "])
        pipe.writelines([LARGE])
        pipe.close()
        received = await asyncio.to_thread(read_all, reading_end)
        assert received == b"first second " + LARGE + b"third " + b"small " * 200 + LARGE

    run(scenario)


def test_writing_never_waits_for_the_reader() -> None:
    async def scenario(pipe: PosixPipe, reading_end: int) -> None:
        pipe.writelines([LARGE])
        await asyncio.sleep(0)
        pipe.close()
        assert await asyncio.to_thread(read_all, reading_end) == LARGE

    run(scenario)


def test_what_is_written_after_the_reader_has_gone_is_dropped() -> None:
    async def scenario(pipe: PosixPipe, reading_end: int) -> None:
        pipe.writelines([LARGE])
        os.close(reading_end)
        for _ in range(3):
            await asyncio.sleep(0.01)
            pipe.writelines([LARGE])
        pipe.close()
        pipe.close()

    run(scenario)


def test_an_empty_pipe_is_closed_at_once() -> None:
    async def scenario(pipe: PosixPipe, reading_end: int) -> None:
        pipe.close()
        assert os.read(reading_end, 1) == b""
        os.close(reading_end)

    run(scenario)
