"""The project's own command line, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.api import PATIENCE
from tests.peers.proxy import ROOT

ENDPOINT = re.compile(r"^Entries endpoint: (ws://\S+)$")
COMMAND = (sys.executable, "-m", "rpc")


class Ended(subprocess.CompletedProcess[bytes]):
    """A command that has ended."""

    @property
    def sentence(self) -> str:
        """The one line that it has written to standard error."""
        text: str = self.stderr.decode()
        assert text.endswith("\n"), text
        assert text.count("\n") == 1, text
        return text.rstrip("\n")


def run(*words: object, home: Path | None = None) -> Ended:
    """Run a command to its end."""
    ended = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=os.environ | ({"HOME": str(home)} if home else {}),
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )
    return Ended(ended.args, ended.returncode, ended.stdout, ended.stderr)


class Server:
    """A `serve` that is running. `exit_code` and `complaints` are there when it has ended."""

    url: str
    exit_code: int
    complaints: str


@contextmanager
def serving(*words: object, with_signal: signal.Signals = signal.SIGINT) -> Iterator[Server]:
    """Serve a file on a free port, until the end of the block."""
    process = subprocess.Popen(
        [*COMMAND, "serve", *map(str, words), "--port", "0"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    server = Server()
    with process:
        try:
            line = process.stdout.readline()
            printed = ENDPOINT.match(line)
            assert printed is not None, line + process.stderr.read()
            server.url = printed[1]
            yield server
        finally:
            process.send_signal(with_signal)
            server.exit_code = process.wait(PATIENCE)
            server.complaints = process.stderr.read()
