"""The event loop's look-ups, timed for the connection that their task opens."""

from __future__ import annotations

import asyncio
import socket

import pytest

from addon.clock import now
from addon.resolver import time_resolving
from addon.servers import Server, being_opened


async def opened(host: str) -> Server:
    """Open a connection as mitmproxy does, and return what was seen of that."""
    time_resolving(asyncio.get_running_loop())
    server = Server(now())
    being_opened.set(server)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, writer = await asyncio.open_connection(host, listener.getsockname()[1])
        writer.close()
        await writer.wait_closed()
    return server


def test_looking_up_a_name_is_timed() -> None:
    server = asyncio.run(opened("localhost"))
    assert server.resolving is not None
    assert server.resolved is not None
    assert server.queued is not None
    assert server.queued <= server.resolving <= server.resolved


def test_an_address_needs_no_looking_up() -> None:
    server = asyncio.run(opened("127.0.0.1"))
    assert server.resolving is None
    assert server.resolved is None


def test_a_name_that_is_not_found_is_never_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    server = Server(now())

    async def look_up() -> None:
        loop = asyncio.get_running_loop()
        time_resolving(loop)
        being_opened.set(server)
        await loop.getaddrinfo("missing.test", 80)

    with pytest.raises(socket.gaierror):
        asyncio.run(look_up())
    assert server.resolving is not None
    assert server.resolved is None


def test_each_task_times_its_own_connection() -> None:
    async def both() -> tuple[Server, Server]:
        return await asyncio.gather(asyncio.create_task(opened("localhost")), asyncio.create_task(opened("127.0.0.1")))

    named, addressed = asyncio.run(both())
    assert named.resolving is not None
    assert addressed.resolving is None


def test_look_ups_for_anything_else_are_left_alone() -> None:
    async def look_up() -> object:
        time_resolving(asyncio.get_running_loop())
        return await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    assert asyncio.run(look_up()) == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


def test_a_loop_is_wrapped_once() -> None:
    async def wrapped_twice() -> bool:
        loop = asyncio.get_running_loop()
        time_resolving(loop)
        first = loop.getaddrinfo
        time_resolving(loop)
        return loop.getaddrinfo == first

    assert asyncio.run(wrapped_twice())
