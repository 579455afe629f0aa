"""A mitmdump process with the addon, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.peers.api import PATIENCE, Api
from tests.peers.listener import HOST

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "addon" / "entries.py"
MITMDUMP = Path(sys.executable).parent / "mitmdump"

LISTENING = re.compile(r"listening at (?:\*|\[?[0-9a-f.:]*?\]?):(\d+)\.?$")
ENDPOINT = re.compile(r"^Entries endpoint: (wss?://\S+)$")


class Mitmdump:
    """A running process and what it has printed so far."""

    def __init__(self, arguments: tuple[str, ...], *, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [str(MITMDUMP), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=cwd,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))

    def wait_for_line(self, pattern: re.Pattern[str]) -> str:
        """Wait for a line that fits, and return its first group."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._first(pattern)) is None:
            assert time.monotonic() < deadline, f"no line like {pattern.pattern} in: {self.output}"
            assert self.process.poll() is None or self._first(pattern), f"it has ended: {self.output}"
            time.sleep(0.02)
        return found[1]

    def _first(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return next((match for line in list(self.lines) if (match := pattern.search(line))), None)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(PATIENCE)

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C in a terminal does: the whole process group gets the signal."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, with_signal)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


class Proxy:
    """A mitmdump that records. `port` is the proxy's, `url` the endpoint's."""

    def __init__(self, mitmdump: Mitmdump, url: str, port: int, confdir: Path) -> None:
        self.mitmdump = mitmdump
        self.url = url
        self.port = port
        self.ca = confdir / "mitmproxy-ca-cert.pem"
        self.api = Api(url)

    @property
    def http_url(self) -> str:
        """What clients are told to use as their proxy."""
        return f"http://{HOST}:{self.port}"


@contextmanager
def running(*arguments: str, cwd: Path | None = None) -> Iterator[Mitmdump]:
    """Run mitmdump with these arguments alone."""
    mitmdump = Mitmdump(arguments, cwd=cwd)
    try:
        yield mitmdump
    finally:
        mitmdump.stop()


def with_script(confdir: Path, **options: object) -> tuple[str, ...]:
    """Return the arguments of a mitmdump that records, on free ports and with these options."""
    settings = {"confdir": confdir, "rpc_listen_port": 0, "termlog_verbosity": "info"} | options
    pairs = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    return ("-s", str(SCRIPT), "--listen-host", HOST, "--listen-port", "0", *pairs)


@contextmanager
def recording(confdir: Path, *arguments: str, listens: bool = True) -> Iterator[Proxy]:
    """Run a mitmdump that records, and connect to its endpoint."""
    with running(*with_script(confdir), *arguments) as mitmdump:
        port = int(mitmdump.wait_for_line(LISTENING)) if listens else 0
        proxy = Proxy(mitmdump, mitmdump.wait_for_line(ENDPOINT), port, confdir)
        try:
            yield proxy
        finally:
            proxy.api.close()
