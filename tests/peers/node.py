"""Node.js's own `http2`: a server that pushes and a client that lets it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.peers.programs import program
from tests.peers.proxy import Proxy

HERE = Path(__file__).parent
PATIENCE = 60.0
"""Seconds within which a client must be done."""


@contextmanager
def push_origin(certificate: Path) -> Iterator[int]:
    """Run the server of `push_origin.mjs`; yield its port."""
    command = [program("node"), str(HERE / "push_origin.mjs"), str(certificate)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def push_client(proxy: Proxy, port: int, *, allows_push: bool) -> dict[str, Any]:
    """Run the client of `push_client.mjs` through a proxy; return what it has got."""
    arguments = (str(proxy.port), str(port), str(proxy.ca), str(allows_push).lower())
    command = [program("node"), str(HERE / "push_client.mjs"), *arguments]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE)
    got: dict[str, Any] = json.loads(done.stdout)
    return got
