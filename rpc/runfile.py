"""The run file of each run: where other programs of the same user find the endpoint, and what lets them in.

`<confdir>/entries/<pid of the proxy>.json`, readable by its owner only, is there as long as the run:

    {"url": "ws://127.0.0.1:8765/", "token": "…", "sessionId": "…", "startedAt": "2026-11-24T14:55:05.000Z"}

A run that was killed may leave one behind. It is stale, and ignored: its process is gone, or is a later one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from rpc.runs import CLOCK_SECONDS, run_of

FOLDER = "entries"
OTHERS = 0o077
"""Who must not read a run file."""


class RunFile(msgspec.Struct, frozen=True, rename="camel"):
    """What a run file says: the endpoint's URL, its token, the session that is captured, and since when (RFC 3339)."""

    url: str
    token: str
    session_id: str
    started_at: str


class FoundRun(NamedTuple):
    """A run that is there now: the proxy's process, and what its file says."""

    pid: int
    run: RunFile


_decode = msgspec.json.Decoder(RunFile).decode


def write(path: Path, run: RunFile) -> None:
    """Write a run file, whole or not at all, and remove stale ones beside it. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(path.parent)
    for stale in set(_files(path.parent)) - {found.pid for found in _found(path.parent)}:
        (path.parent / f"{stale}.json").unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    # Exclusive: neither an existing file nor a link is written to.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123
        file.write(msgspec.json.format(msgspec.json.encode(run)) + b"\n")
    temporary.replace(path)


def remove(path: Path) -> None:
    """Remove a run file, if it is there."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def running(confdir: Path) -> list[FoundRun]:
    """Return the runs under a configuration folder of mitmproxy that are there now, the one that began last first."""
    return sorted(_found(confdir / FOLDER), key=lambda found: found.run.started_at, reverse=True)


def _found(folder: Path) -> Iterator[FoundRun]:
    for pid in _files(folder):
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError):
            run = _decode((folder / f"{pid}.json").read_bytes())
            if _is_there(pid, datetime.fromisoformat(run.started_at).timestamp()):
                yield FoundRun(pid, run)


def _files(folder: Path) -> Iterator[int]:
    """Yield the processes that have a run file in a folder."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("*.json")):
            if path.stem.isascii() and path.stem.isdecimal():
                yield int(path.stem)


def _is_there(pid: int, started_at: float) -> bool:
    """Return whether the process that began something then is there: ids are used again, later."""
    process = run_of(pid)
    return process is not None and process.started < started_at + CLOCK_SECONDS


def _check_private(folder: Path) -> None:
    """Raise `PermissionError` if a folder is not the user's own, or a link; close one that is open to others."""
    found = folder.lstat()
    if os.name != "posix":
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(1, "the folder is somebody else's, or a link")
    if found.st_mode & OTHERS:
        folder.chmod(0o700)
