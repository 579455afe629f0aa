"""How soon subscribers hear of an entry: `python -m bench.notifications`.

Milliseconds from the last byte of a response, as the client of the proxy sees it, to the notification that the entry
has finished: reverse mode, HTTP/1.1 keep-alive, 1 KiB bodies, 16 connections, at a fixed rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from bench.proxies import MissingError, mitmdump, server

CONNECTIONS = 16


class Clock:
    """When the response to each request was complete, and when its entry was told of."""

    def __init__(self) -> None:
        self.answered: dict[str, float] = {}
        self.told: dict[str, float] = {}

    def milliseconds(self) -> list[float]:
        """Return how long each entry took, in order of length. What was told before the client had it took nothing."""
        return sorted(max(0.0, self.told[path] - at) * 1000 for path, at in self.answered.items())


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, clock: Clock) -> None:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    clock.answered[path] = time.perf_counter()


async def _load(port: int, number: int, clock: Clock, *, rate: float, seconds: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begins, interval = time.perf_counter() + number / rate, CONNECTIONS / rate
    for turn in range(int(seconds / interval)):
        await asyncio.sleep(begins + turn * interval - time.perf_counter())
        await _request(reader, writer, f"/body?{number}-{turn}", clock)
    writer.close()
    await writer.wait_closed()


async def _listen(connection: ClientConnection, clock: Clock) -> None:
    await connection.send('{"jsonrpc": "2.0", "id": 1, "method": "sessions/subscribe"}')
    async for text in connection:
        params = json.loads(text).get("params", {})
        if "finished" in params.get("changes", ()):
            clock.told["/" + params["entry"]["url"].partition("://")[2].partition("/")[2]] = time.perf_counter()


async def _measure(port: int, url: str, *, rate: float, seconds: float) -> list[float]:
    clock = Clock()
    async with connect(url, compression=None, max_size=None) as connection:
        listening = asyncio.create_task(_listen(connection, clock))
        await asyncio.sleep(0.5)
        loads = (_load(port, number, clock, rate=rate, seconds=seconds) for number in range(CONNECTIONS))
        await asyncio.gather(*loads)
        async with asyncio.timeout(30):
            while len(clock.told) < len(clock.answered):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        listening.cancel()
    return clock.milliseconds()


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="requests per second (default: 500)")
    parser.add_argument("--seconds", type=float, default=10, help="for how long (default: 10)")
    options = parser.parse_args()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            server(Path(folder)) as upstream,
            mitmdump(upstream, records=True) as proxy,
        ):
            assert proxy.url is not None
            took = asyncio.run(_measure(proxy.port, proxy.url, rate=options.rate, seconds=options.seconds))
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    print(
        f"{len(took)} entries at {options.rate:.0f} requests/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {took[-1]:.1f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
