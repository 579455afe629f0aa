"""Captures of mitmproxy and HAR files: read into a store of their own, by a mitmdump with the addon.

So what they hold is, field by field and with the ids that a capture has kept, what a mitmdump that replays them
records. Its process gets the file through a pipe: how far it has read is how far the work is.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rpc.progress import Progress

SCRIPT = Path(__file__).parents[1] / "addon" / "entries.py"

MITMDUMP = "from mitmproxy.tools.main import mitmdump; mitmdump()"
"""What Python is to run: where the program itself is depends on how it was installed."""

BLOCK_BYTES = 64 * 1024

UNREADABLE = re.compile(r"Failed to read -: (?P<reason>[^.\n]+)")
"""What mitmdump says of a file that it cannot read, or not to its end."""


class CaptureError(Exception):
    """The capture cannot be read; the sentence is for the user."""


@contextmanager
def read_capture(path: Path) -> Iterator[Path]:
    """Yield a store with what a capture or HAR file holds, which is gone afterwards. Raises `CaptureError`."""
    # A folder that nobody else can read.
    with tempfile.TemporaryDirectory(prefix="entries-", ignore_cleanup_errors=True) as folder:
        store = Path(folder) / "entries.db"
        _read(path, store, Path(folder) / "mitmproxy")
        yield store


def _read(path: Path, store: Path, confdir: Path) -> None:
    # Files, not pipes: what mitmdump prints must not hold it up.
    with _opened(path) as capture, tempfile.TemporaryFile() as printed:
        command = _command(path.name, store, confdir)
        mitmdump = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=printed, stderr=printed)  # noqa: S603
        try:
            _feed(mitmdump, capture, path)
            code = mitmdump.wait()
        except BaseException:
            mitmdump.terminate()
            mitmdump.wait()
            raise
        printed.seek(0)
        _check(path, code, printed.read().decode(errors="replace"))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        message = f"The file {path} cannot be read: {error.strerror}."
        raise CaptureError(message) from error


def _command(name: str, store: Path, confdir: Path) -> list[str]:
    """Return a mitmdump that records what comes in on its standard input, whatever the user's configuration says."""
    options = {
        "confdir": confdir,
        "entries_session_name": name,
        "entries_store": store,
        "flow_detail": 0,
        "rpc_listen_port": 0,
        "termlog_verbosity": "warn",
    }
    pairs = [argument for option, value in options.items() for argument in ("--set", f"{option}={value}")]
    return [sys.executable, "-c", MITMDUMP, "-n", "-r", "-", "-s", str(SCRIPT), *pairs]


def _feed(mitmdump: subprocess.Popen[bytes], capture: BinaryIO, path: Path) -> None:
    assert mitmdump.stdin is not None
    # It says itself why it reads no further.
    with contextlib.suppress(BrokenPipeError), mitmdump.stdin, Progress("Reading", path.stat().st_size) as progress:
        while block := capture.read(BLOCK_BYTES):
            mitmdump.stdin.write(block)
            progress.advance(len(block))


def _check(path: Path, code: int, printed: str) -> None:
    """Raise `CaptureError` if not everything was read and stored."""
    if (unreadable := UNREADABLE.search(printed)) is not None:
        message = f"The file {path} is no store, and no whole capture or HAR file ({unreadable['reason']})."
        raise CaptureError(message)
    if code != 0:
        last = next((line for line in reversed(printed.splitlines()) if line.strip()), f"mitmdump ended with {code}")
        message = f"The file {path} cannot be read: {last.strip()}"
        raise CaptureError(message)
