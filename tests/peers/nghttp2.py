"""The programs of nghttp2: `nghttpd` is a server that pushes, `nghttp` a client that lets it, `h2load` many at once."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.peers.listener import HOST
from tests.peers.programs import program

PATIENCE = 60.0
"""Seconds within which a program must have started, or have finished."""


@contextmanager
def nghttpd(certificate: Path, folder: Path, *arguments: str) -> Iterator[int]:
    """Serve the files of a folder over TLS; yield the port. `certificate` has key and chain in one file."""
    port = _free_port()
    command = [program("nghttpd"), "--htdocs", str(folder), *arguments, str(port), str(certificate), str(certificate)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _free_port() -> int:
    with closing(socket.create_server((HOST, 0))) as reserved:
        port: int = reserved.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.02)
        else:
            return


def nghttp(*arguments: str) -> str:
    """Run nghttp and return what it has printed; `-v` makes it print every frame."""
    return _run("nghttp", "--no-verify-peer", *arguments)


def h2load(*arguments: str) -> str:
    """Run h2load and return what it has printed."""
    return _run("h2load", *arguments)


def _run(name: str, *arguments: str) -> str:
    done = subprocess.run([program(name), *arguments], capture_output=True, check=True, timeout=PATIENCE)
    return done.stdout.decode("latin-1")
