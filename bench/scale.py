"""What size costs: `python -m bench.scale`.

Two stores, one of a million entries and one of a thousand, are served at once and asked in turns: the time of
`sessions/get_entry` at random ids, and their ratio; then the time of `sessions/get_entry_ids` of the large one, and the
longest that another client waits for an entry meanwhile. Then the memory of the recorder's process, which is told of
entries over its pipe, after 10,000 of them and after 50,000.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec
import psutil
from websockets.sync.client import connect

from bench.endpoint import Call, calls
from rpc.store import SqliteStore, StoredEntry
from tests.peers.recorder import answered, recorder, started

SESSION = "01JD8Z7T5M0E9R3Q6W2XKY4ABC"
FLOWS = Path(__file__).parents[1] / "flows"
BATCH = 5000
"""Entries that are written at once."""
ROUND = 200
"""Calls of one store before the other one has its turn."""
MEBIBYTE = 1024 * 1024


def _entry_id(number: int) -> str:
    return f"01JD8Z7V2N{number:016}"


def _template() -> bytes:
    """Return a real entry's JSON, with `%b` for its id."""
    snapshot = FLOWS / "http2.json"
    entry = next(iter(msgspec.json.decode(snapshot.read_bytes())["entries"].values()))
    return msgspec.json.encode(entry | {"id": "%b"}).replace(b"%", b"%%").replace(b"%%b", b"%b")


def _fill(path: Path, count: int) -> None:
    """Make a store with as many entries."""
    template = _template()
    with closing(SqliteStore(path, durable=False)) as store:
        store.open_session(SESSION, "scale", 0.0)
        for batch in itertools.batched(range(count), BATCH):
            with store.writing():
                for number in batch:
                    entry_id = _entry_id(number)
                    store.put_entry(SESSION, StoredEntry(entry_id, template % entry_id.encode(), 0, 0, None))


@contextmanager
def _served(path: Path) -> Iterator[str]:
    """Serve a store, and yield the endpoint's URL."""
    command = [sys.executable, "-m", "rpc", "serve", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def _seconds_of_entries(call: Call, count: int) -> Iterator[float]:
    for _ in range(ROUND):
        entry_id = _entry_id(random.randrange(count))
        before = time.perf_counter()
        assert call("sessions/get_entry", sessionId=SESSION, entryId=entry_id)["id"] == entry_id
        yield time.perf_counter() - before


def _measure_entries(urls: dict[int, str], rounds: int) -> None:
    seconds: dict[int, list[float]] = {count: [] for count in urls}
    with ExitStack() as stack:
        asked = {count: stack.enter_context(calls(url)) for count, url in urls.items()}
        for call, count in zip(asked.values(), urls, strict=True):
            list(_seconds_of_entries(call, count))
        for _ in range(rounds):
            for count, call in asked.items():
                seconds[count] += _seconds_of_entries(call, count)
    medians = {count: statistics.median(each) for count, each in seconds.items()}
    for count, median in medians.items():
        print(f"get_entry      {median * 1e6:8.0f} us of {count:,} entries (median of {len(seconds[count]):,})")
    print(f"ratio          {max(medians.items())[1] / min(medians.items())[1]:8.2f}")


def _measure_ids(url: str, count: int) -> None:
    waits: list[float] = []
    is_over = threading.Event()

    def ask_meanwhile() -> None:
        with calls(url) as call:
            while not is_over.is_set():
                waits.append(max(itertools.islice(_seconds_of_entries(call, count), 1)))

    other = threading.Thread(target=ask_meanwhile)
    request = {"jsonrpc": "2.0", "id": 1, "method": "sessions/get_entry_ids", "params": {"sessionId": SESSION}}
    with connect(url, max_size=None, compression=None) as socket:
        other.start()
        before = time.perf_counter()
        socket.send(json.dumps(request))
        answer = socket.recv()
        seconds = time.perf_counter() - before
        # What the answer is made into is this process's time, and would stop the other client, which is in it too.
        is_over.set()
        other.join()
    found = len(json.loads(answer)["result"])
    print(f"get_entry_ids  {seconds:8.2f} s for {found:,} ids; others waited {max(waits) * 1e3:.0f} ms at most")


def _measure_memory(few: int, many: int) -> None:
    with recorder() as process:
        for start, count in ((0, few), (few, many)):
            for batch in itertools.batched(range(start, count), BATCH):
                ids = map(_entry_id, batch)
                frames = [process.send(*started(id_), *answered(id_, [b"x" * 1024])) for id_ in ids]
                process.wait_for(frames[-1])
            memory = psutil.Process(process.pid).memory_info().rss / MEBIBYTE
            print(f"memory         {memory:8.1f} MiB of the recorder's process after {count:,} entries")
        process.end()


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1_000, help="entries of the small store (default: 1000)")
    parser.add_argument("--many", type=int, default=1_000_000, help="entries of the large store (default: 1000000)")
    parser.add_argument("--rounds", type=int, default=10, help=f"rounds of {ROUND} calls each (default: 10)")
    parser.add_argument("--told", type=int, default=50_000, help="entries that are recorded (default: 50000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        urls: dict[int, str] = {}
        for count in (options.few, options.many):
            path = Path(folder) / f"{count}.db"
            _fill(path, count)
            urls[count] = stack.enter_context(_served(path))
        _measure_entries(urls, options.rounds)
        _measure_ids(urls[options.many], options.many)
    _measure_memory(min(10_000, options.told), options.told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
