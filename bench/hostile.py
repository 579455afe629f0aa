"""What one hostile client costs the others: `python -m bench.hostile`.

For each attack: the proxy's requests per second while it goes on, divided by those without it, both in turns; how long
another client waits for `sessions/get_entry`; and the memory of the recorder's process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.attacks import ATTACKS
from bench.endpoint import Call, calls, entry_ids
from bench.proxies import ROOT, MissingError, Proxy, mitmdump, requests_per_second, server

CONNECTIONS = 16
MIB = 2**20


@contextmanager
def _attacked(name: str, proxy: Proxy, session: str, entry: str) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.attacks", name, str(proxy.url), session, entry]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()


def _delays(call: Call, session: str, entry: str, seconds: float) -> list[float]:
    """Return how many milliseconds each call took."""
    delays = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        call("sessions/get_entry", sessionId=session, entryId=entry)
        delays.append((time.perf_counter() - began) * 1000)
        time.sleep(0.005)
    return sorted(delays)


def _record_large(proxy: Proxy, call: Call, folder: Path, size: int) -> tuple[str, str]:
    with (folder / "large").open("wb") as file:
        file.truncate(size)
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/large") as response:
        while response.read(MIB):
            pass
    session, ids = entry_ids(call)
    while call("sessions/get_entry", sessionId=session, entryId=ids[-1])["response"]["bodySize"] != size:
        time.sleep(0.1)
    return session, ids[-1]


def _measure(name: str, proxy: Proxy, call: Call, known: tuple[str, str], *, rounds: int, seconds: int) -> None:
    ratios, delays = [], []
    for _ in range(rounds):
        quiet = requests_per_second(proxy.port, seconds=seconds, connections=CONNECTIONS)
        with _attacked(name, proxy, *known):
            ratios.append(requests_per_second(proxy.port, seconds=seconds, connections=CONNECTIONS) / quiet)
            delays += _delays(call, *known, seconds)
    delays.sort()
    p50, p99, most = (delays[int(len(delays) * share)] for share in (0.5, 0.99, 0.999))
    print(
        f"{name:12} throughput {statistics.median(ratios):5.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
        f"   get_entry p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  p99.9 {most:6.1f} ms   child {proxy.memory()[1]:6.0f} MiB",
        flush=True,
    )


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each attack is made (default: 5)")
    parser.add_argument("--seconds", type=int, default=4, help="how long each measurement takes (default: 4)")
    parser.add_argument("--body", type=int, default=1024, help="MiB of the large body (default: 1024)")
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS), help="which attacks (default: all)")
    options = parser.parse_args()
    streams = ("--set", "stream_large_bodies=1m")
    try:
        with (
            tempfile.TemporaryDirectory() as name,
            server(folder := Path(name)) as upstream,
            mitmdump(upstream, *streams, records=True) as proxy,
            calls(str(proxy.url)) as call,
        ):
            known = _record_large(proxy, call, folder, options.body * MIB)
            for attack in options.attacks:
                _measure(attack, proxy, call, known, rounds=options.rounds, seconds=options.seconds)
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
