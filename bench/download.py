"""What recording costs a large download: `python -m bench.download`.

A download that mitmproxy streams, by curl through mitmdump without and with the addon in turns: the ratio of speeds,
the CPU time that each process takes per GiB, and the most memory that either has held.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.proxies import MissingError, Proxy, mitmdump, program, server

STREAM = ("--set", "stream_large_bodies=1m")
MIB_PER_GIB = 1024


class Download(NamedTuple):
    """How long a download took, and the CPU time of mitmdump and of its children, in seconds."""

    seconds: float
    cpu: tuple[float, ...]


def _processes(proxy: Proxy) -> list[psutil.Process]:
    return [proxy.process, *proxy.process.children()]


def _cpu(proxy: Proxy) -> list[float]:
    return [sum(process.cpu_times()[:2]) for process in _processes(proxy)]


def _download(proxy: Proxy) -> Download:
    before, began = _cpu(proxy), time.monotonic()
    command = [program("curl"), "-sSf", "-o", "/dev/null", f"http://127.0.0.1:{proxy.port}/download"]
    subprocess.run(command, check=True)
    seconds = time.monotonic() - began
    time.sleep(0.5)  # what the child still has to write counts too
    return Download(seconds, tuple(now - then for then, now in zip(before, _cpu(proxy), strict=True)))


def _peaks(proxy: Proxy) -> list[float]:
    """Return the most memory that mitmdump and its children have held, in MiB; only Linux tells."""
    status = [Path(f"/proc/{process.pid}/status").read_text() for process in _processes(proxy)]
    return [int(text.split("VmHWM:")[1].split()[0]) / 1024 for text in status]


def _measure(upstream: int, *, rounds: int, size: int) -> None:
    found: dict[bool, list[Download]] = {False: [], True: []}
    with (
        mitmdump(upstream, *STREAM, records=False) as plain,
        mitmdump(upstream, *STREAM, records=True) as recording,
    ):
        for _ in range(rounds):
            for proxy, records in ((plain, False), (recording, True)):
                found[records].append(_download(proxy))
        peaks = _peaks(recording) if sys.platform == "linux" else []
    ratios = [without.seconds / with_addon.seconds for without, with_addon in zip(*found.values(), strict=True)]
    for records, name in ((False, "without"), (True, "with")):
        speed = statistics.median(size / download.seconds for download in found[records])
        cpu = [
            statistics.median(times) * MIB_PER_GIB / size
            for times in zip(*(d.cpu for d in found[records]), strict=True)
        ]
        print(f"{name:8} {speed:6.0f} MiB/s, CPU seconds per GiB: {', '.join(f'{seconds:.2f}' for seconds in cpu)}")
    print(f"ratio    {statistics.median(ratios):6.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")
    print(f"memory   at most {', '.join(f'{peak:.0f}' for peak in peaks)} MiB (mitmdump, child)")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each proxy is used (default: 5)")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the download (default: 1024)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as upstream:
            with (Path(folder) / "download").open("wb") as file:
                file.truncate(options.size * 2**20)
            _measure(upstream, rounds=options.rounds, size=options.size)
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
