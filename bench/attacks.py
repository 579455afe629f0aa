"""What a hostile client does to the endpoint: `python -m bench.attacks NAME URL SESSION ENTRY`, until it is ended.

It runs at the lowest priority: it would be on another machine, or else take processors from the proxy by itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

MIB = 2**20
KEY = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
MASK = bytes(4)


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """Return a client's frame, masked with zeroes (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 2**16:
        length = b"\xfe" + size.to_bytes(2)
    else:
        length = b"\xff" + size.to_bytes(8)
    return bytes([(0x80 if fin else 0) | opcode]) + length + MASK + payload


class Target:
    """What is attacked: the endpoint, and an entry with a large body that it has."""

    def __init__(self, url: str, session: str, entry: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.path = f"{parts.path}?{parts.query}"
        self.params = f'{{"sessionId":"{session}","entryId":"{entry}"}}'

    def request(self, method: str, params: str = "{}") -> bytes:
        """Return a request."""
        return f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}'.encode()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a TCP connection."""
        return await asyncio.open_connection(self.host, self.port)

    async def come_in(self, path: str | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection that has sent its handshake, and had the answer."""
        reader, writer = await self.connect()
        head = f"GET {path or self.path} HTTP/1.1\r\nHost: {self.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        writer.write((head + KEY).encode())
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer


async def _pour(target: Target, data: bytes, *, reads: bool) -> None:
    """Send the same again and again over one connection."""
    reader, writer = await target.come_in()
    reading = asyncio.create_task(_discard(reader)) if reads else None
    try:
        while True:
            writer.write(data)
            await writer.drain()
    finally:
        if reading is not None:
            reading.cancel()
        writer.transport.abort()


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(MIB):
        pass


async def flood(target: Target) -> None:
    """Ask for an entry as fast as it goes, and read the answers."""
    await _pour(target, frame(target.request("sessions/get_entry", target.params)) * 500, reads=True)


async def pings(target: Target) -> None:
    """Send pings as fast as it goes, and read the pongs."""
    await _pour(target, frame(b"", 9) * 10_000, reads=True)


async def deaf(target: Target) -> None:
    """Ask for an entry as fast as it goes, and read nothing."""
    await _pour(target, frame(target.request("sessions/get_entry", target.params)) * 500, reads=False)


async def batches(target: Target) -> None:
    """Ask in the largest batches that are allowed."""
    one = target.request("sessions/get_entry", target.params)
    await _pour(target, frame(b"[" + b",".join([one] * 1000) + b"]"), reads=True)


async def brackets(target: Target) -> None:
    """Send messages of the largest size that are the hardest to read."""
    await _pour(target, frame(b"[" + b'"",' * (MIB // 3 - 2) + b'""]'), reads=True)


async def escapes(target: Target) -> None:
    """Send messages of the largest size in which every character is escaped."""
    await _pour(target, frame(b'["' + rb"\n" * (MIB // 2 - 10) + rb'\ud800"]'), reads=True)


async def bodies(target: Target) -> None:
    """Ask for the large body in a loop."""
    params = target.params[:-1] + ',"encoding":"base64"}'
    await _pour(target, frame(target.request("sessions/get_response_body", params)), reads=True)


async def deaf_bodies(target: Target) -> None:
    """Ask for the large body over many connections, and read nothing."""
    params = target.params[:-1] + ',"encoding":"base64"}'
    writers = []
    with suppress(OSError, asyncio.IncompleteReadError):
        for _ in range(50):
            _, writer = await target.come_in()
            writers.append(writer)
            writer.write(frame(target.request("sessions/get_response_body", params)))
    await asyncio.Event().wait()


async def connections(target: Target) -> None:
    """Keep a thousand connections open that say nothing, and open new ones for those that are closed."""

    async def keep() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await target.connect()
                await reader.read()
                writer.transport.abort()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(keep() for _ in range(1000)))


async def guesses(target: Target) -> None:
    """Try wrong tokens, sixteen at a time."""

    async def guess() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                _, writer = await target.come_in("/?token=wrong")
                writer.transport.abort()

    await asyncio.gather(*(guess() for _ in range(16)))


async def halves(target: Target) -> None:
    """Keep every place that there is with half a frame in it, and keep asking for more of them."""

    async def keep() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await target.come_in()
                writer.write(frame(b"x" * MIB)[: MIB // 2])
                await reader.read()
                writer.transport.abort()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(keep() for _ in range(40)))


async def nothing(_: Target) -> None:
    """Do nothing, to compare with."""
    await asyncio.Event().wait()


ATTACKS: dict[str, Callable[[Target], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        *(nothing, flood, deaf, pings, batches, brackets, escapes),
        *(bodies, deaf_bodies, connections, guesses, halves),
    )
}


async def _attack(name: str, target: Target) -> None:
    while True:
        # Being thrown out does not end an attack.
        with suppress(OSError, asyncio.IncompleteReadError):
            await ATTACKS[name](target)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    os.nice(19)
    asyncio.run(_attack(sys.argv[1], Target(*sys.argv[2:])))
