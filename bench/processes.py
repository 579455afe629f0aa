"""What finding clients' processes costs, and how often it succeeds: `python -m bench.processes`.

First 100 curls, one after the other and each gone within milliseconds: how many are found, by process id and name. Once
on a machine with nothing else to do and once while wrk loads the same proxy. Then requests per second with a new
connection for each request, with the look-up divided by without: two recording proxies, loaded in turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from bench.endpoint import calls, entry_ids
from bench.proxies import ROOT, MissingError, Proxy, mitmdump, program, requests_per_second, server

CURLS = 100
CONNECTIONS = 16
SETTLE_SECONDS = 2.0
WITHOUT = ("-s", str(ROOT / "bench" / "without_processes.py"))
CLOSE = "Connection: close"


def _curl(port: int) -> tuple[int, int, float]:
    """Run a curl; return its local port, its process id and how many seconds it lived."""
    command = [program("curl"), "-s", "-o", "/dev/null", "-w", "%{local_port}", f"http://127.0.0.1:{port}/body"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        local_port, _ = process.communicate(timeout=30)
    return int(local_port), process.pid, time.perf_counter() - began


def _processes(proxy: Proxy) -> dict[int, dict[str, object] | None]:
    """Return the process of every entry by the client's port."""
    assert proxy.url is not None
    with calls(proxy.url) as call:
        session, ids = entry_ids(call)
        entries = [call("sessions/get_entry", sessionId=session, entryId=entry) for entry in ids]
    return {entry["clientAddr"]["port"]: entry["process"] for entry in entries}


def _measure_hits(upstream: int, *, loaded: bool) -> None:
    with mitmdump(upstream, records=True) as proxy:
        _curl(proxy.port)
        command = [program("wrk"), "-t1", "-c8", "-d60s", f"http://127.0.0.1:{proxy.port}/body"]
        load = subprocess.Popen(command, stdout=subprocess.DEVNULL) if loaded else None
        with load or nullcontext():
            curls = [_curl(proxy.port) for _ in range(CURLS)]
            if load is not None:
                load.terminate()
        time.sleep(SETTLE_SECONDS)
        found = _processes(proxy)
    hits = sum(found[port] == {"pid": pid, "name": "curl"} for port, pid, _ in curls)
    wrong = sum(found[port] not in (None, {"pid": pid, "name": "curl"}) for port, pid, _ in curls)
    lived = statistics.median(seconds for *_, seconds in curls) * 1000
    print(f"{'loaded' if loaded else 'idle':7} {hits} of {CURLS} curls found, {wrong} wrong; each lived {lived:.0f} ms")


def _measure_cost(upstream: int, *, rounds: int, seconds: int) -> None:
    rates: dict[bool, list[float]] = {False: [], True: []}
    with mitmdump(upstream, *WITHOUT, records=True) as without, mitmdump(upstream, records=True) as seeking:
        for proxy in (without, seeking):
            requests_per_second(proxy.port, CLOSE, seconds=1, connections=CONNECTIONS)
        for _ in range(rounds):
            for proxy, seeks in ((without, False), (seeking, True)):
                rate = requests_per_second(proxy.port, CLOSE, seconds=seconds, connections=CONNECTIONS)
                rates[seeks].append(rate)
    ratios = [with_it / without_it for without_it, with_it in zip(rates[False], rates[True], strict=True)]
    print(f"without {statistics.median(rates[False]):8.0f} connections/s (median of {rounds})")
    print(f"with    {statistics.median(rates[True]):8.0f} connections/s")
    print(f"ratio   {statistics.median(ratios):8.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each proxy is loaded (default: 7)")
    parser.add_argument("--seconds", type=int, default=4, help="how long each time (default: 4)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as upstream:
            _measure_hits(upstream, loaded=False)
            _measure_hits(upstream, loaded=True)
            _measure_cost(upstream, rounds=options.rounds, seconds=options.seconds)
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
