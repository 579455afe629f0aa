"""What recording WebSockets costs the proxy: `python -m bench.websocket`.

Messages per second with the addon, divided by those without: reverse mode, 16 WebSockets, on each of which a message
of 64 bytes goes to an echo and comes back before the next one. Both proxies run at once, and are loaded in turns, so
that what else the machine does hits both; the processor time of mitmdump alone depends less on that. Then the memory
of both processes after 20,000 messages and after 100,000 over one WebSocket, with `entries_trim_websocket`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from typing import NamedTuple

from bench.proxies import Proxy, mitmdump

CONNECTIONS = 16
PAYLOAD = b"x" * 64
TEXT = 0x81
MASKED = bytes([TEXT, len(PAYLOAD) | 0x80]) + b"\0\0\0\0" + PAYLOAD
"""From the client; a mask of zeros changes nothing."""
UNMASKED = bytes([TEXT, len(PAYLOAD)]) + PAYLOAD
"""From the server."""

REQUEST = (
    b"GET /echo HTTP/1.1\r\nHost: echo\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RESPONSE)
        while True:
            await reader.readexactly(len(MASKED))
            writer.write(UNMASKED)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _talk(port: int, until: float, messages: int) -> int:
    """Send messages until then, or as many; return how many have gone through the proxy, both ways."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    sent = 0
    while sent < messages and time.monotonic() < until:
        writer.write(MASKED)
        await reader.readexactly(len(UNMASKED))
        sent += 1
    writer.close()
    return 2 * sent


class Load(NamedTuple):
    """What a proxy has done: messages per second, and the microseconds of mitmdump's processor time for each."""

    rate: float
    cost: float


async def _load(proxy: Proxy, seconds: float) -> Load:
    begin, spent = time.monotonic(), _processor_seconds(proxy)
    talks = [_talk(proxy.port, begin + seconds, sys.maxsize) for _ in range(CONNECTIONS)]
    messages = sum(await asyncio.gather(*talks))
    return Load(messages / (time.monotonic() - begin), (_processor_seconds(proxy) - spent) / messages * 1e6)


def _processor_seconds(proxy: Proxy) -> float:
    times = proxy.process.cpu_times()
    return float(times.user + times.system)


async def _measure_rate(upstream: int, *, rounds: int, seconds: float) -> None:
    loads: dict[bool, list[Load]] = {False: [], True: []}
    with mitmdump(upstream, records=False) as plain, mitmdump(upstream, records=True) as recording:
        for proxy in (plain, recording):
            await _load(proxy, 1)
        for _ in range(rounds):
            for proxy, records in ((plain, False), (recording, True)):
                loads[records].append(await _load(proxy, seconds))
    for records, name in ((False, "without"), (True, "with   ")):
        rate, cost = (statistics.median(figures) for figures in zip(*loads[records], strict=True))
        print(f"{name}  {rate:8.0f} messages/s, {cost:5.0f} µs of processor time each (medians of {rounds})")
    pairs = list(zip(loads[False], loads[True], strict=True))
    rates = [recorded.rate / bare.rate for bare, recorded in pairs]
    costs = [bare.cost / recorded.cost for bare, recorded in pairs]
    print(f"ratio    {statistics.median(rates):8.3f} of the rate, {statistics.median(costs):.3f} by processor time")


async def _measure_memory(upstream: int) -> None:
    with mitmdump(upstream, "--set", "entries_trim_websocket=true", records=True) as proxy:
        for messages in (20_000, 100_000):
            await _talk(proxy.port, float("inf"), messages // 2)
            proxy_memory, child_memory = proxy.memory()
            print(f"memory   proxy {proxy_memory:6.1f} MiB, child {child_memory:6.1f} MiB after {messages} messages")


async def _measure(*, rounds: int, seconds: float) -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server:
        upstream = server.sockets[0].getsockname()[1]
        await _measure_rate(upstream, rounds=rounds, seconds=seconds)
        await _measure_memory(upstream)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each proxy is loaded (default: 7)")
    parser.add_argument("--seconds", type=float, default=4, help="how long each time (default: 4)")
    options = parser.parse_args()
    asyncio.run(_measure(rounds=options.rounds, seconds=options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
