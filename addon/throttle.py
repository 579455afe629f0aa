"""Back-pressure: while the child is far behind, no connection is read from, so nothing has to be held or dropped.

Hooks can wait by themselves. The pieces of a streamed body come without a hook; but after each read from a connection
mitmproxy waits until what it has written is gone, and there it waits for the child as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from mitmproxy.proxy.server import ConnectionHandler

from addon.layers import replaced


def throttled(room: Callable[[], Awaitable[None] | None]) -> AbstractContextManager[None]:
    """Make reading wait for `room()`, unless it is null, while this is entered."""
    drain_writers = ConnectionHandler.drain_writers

    async def drain_writers_and_wait(handler: ConnectionHandler) -> None:
        await drain_writers(handler)  # type: ignore[no-untyped-call]
        if (waiting := room()) is not None:
            await waiting

    return replaced(ConnectionHandler, {"drain_writers": drain_writers_and_wait})
