from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from mitmproxy.proxy.server import ConnectionHandler

from addon.throttle import throttled


class Handler:
    """What `drain_writers` asks of a connection's handler: nothing is written, so nothing is to be waited for there."""

    def __init__(self) -> None:
        self.transports: dict[object, object] = {}
        self._drain_lock = asyncio.Lock()


def drain(handler: Any) -> Awaitable[None]:
    waiting: Awaitable[None] = ConnectionHandler.drain_writers(handler)
    return waiting


def test_reading_waits_for_room() -> None:
    async def scenario() -> None:
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with throttled(lambda: asyncio.shield(room)):
            reading = asyncio.ensure_future(drain(Handler()))
            await asyncio.sleep(0.01)
            assert not reading.done()
            room.set_result(None)
            await reading

    asyncio.run(scenario())


def test_reading_goes_on_where_there_is_room() -> None:
    async def scenario() -> None:
        asked = []
        with throttled(lambda: asked.append(1)):
            await drain(Handler())
        assert asked == [1]
        await drain(Handler())
        assert asked == [1]

    asyncio.run(scenario())
