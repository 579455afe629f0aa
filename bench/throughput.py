"""What recording costs the proxy: `python -m bench.throughput`.

Requests per second with the addon, divided by those without: reverse mode, HTTP/1.1 keep-alive, 1 KiB bodies, 16
connections. Both proxies run at once, and are loaded in turns, so that what else the machine does hits both. Then the
memory of both processes after 2,000 entries and after 20,000.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from bench.endpoint import calls, entry_ids
from bench.proxies import MissingError, Proxy, mitmdump, requests_per_second, server

CONNECTIONS = 16


def _entries(proxy: Proxy) -> int:
    """Return how many entries the proxy has recorded."""
    assert proxy.url is not None
    with calls(proxy.url) as call:
        return len(entry_ids(call)[1])


def _measure_rate(upstream: int, *, rounds: int, seconds: int) -> None:
    rates: dict[bool, list[float]] = {False: [], True: []}
    with mitmdump(upstream, records=False) as plain, mitmdump(upstream, records=True) as recording:
        for proxy in (plain, recording):
            requests_per_second(proxy.port, seconds=1, connections=CONNECTIONS)
        for _ in range(rounds):
            for proxy, records in ((plain, False), (recording, True)):
                rates[records].append(requests_per_second(proxy.port, seconds=seconds, connections=CONNECTIONS))
        recorded = _entries(recording)
    ratios = [with_addon / without for without, with_addon in zip(rates[False], rates[True], strict=True)]
    print(f"without  {statistics.median(rates[False]):8.0f} requests/s (median of {rounds})")
    print(f"with     {statistics.median(rates[True]):8.0f} requests/s, {recorded} entries recorded")
    print(f"ratio    {statistics.median(ratios):8.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


def _measure_memory(upstream: int) -> None:
    with mitmdump(upstream, records=True) as proxy:
        for entries in (2_000, 20_000):
            while (recorded := _entries(proxy)) < entries:
                requests_per_second(proxy.port, seconds=1, connections=CONNECTIONS)
            proxy_memory, child_memory = proxy.memory()
            print(f"memory   proxy {proxy_memory:6.1f} MiB, child {child_memory:6.1f} MiB after {recorded} entries")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each proxy is loaded (default: 7)")
    parser.add_argument("--seconds", type=int, default=4, help="how long each time (default: 4)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as upstream:
            _measure_rate(upstream, rounds=options.rounds, seconds=options.seconds)
            _measure_memory(upstream)
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
