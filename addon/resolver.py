"""When host names are resolved: the event loop's own look-up is timed for the connection that its task opens."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from addon.servers import being_opened

MARK = "_entries_times_resolving"


def time_resolving(loop: asyncio.AbstractEventLoop) -> None:
    """Time every look-up that `loop` makes from now on; once per loop.

    mitmproxy notes one instant for "look-up begins" and the next for "TCP is up": the resolver's part is in between.
    """
    if hasattr(loop, MARK):
        return
    getaddrinfo = loop.getaddrinfo

    async def timed_getaddrinfo(*arguments: Any, **options: Any) -> Any:
        server = being_opened.get()
        if server is None:
            return await getaddrinfo(*arguments, **options)
        server.resolving = time.monotonic()
        found = await getaddrinfo(*arguments, **options)
        server.resolved = time.monotonic()
        return found

    setattr(loop, MARK, True)
    loop.getaddrinfo = timed_getaddrinfo  # type: ignore[method-assign]
