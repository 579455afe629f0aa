"""Real clients that go through a proxy."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import AbstractContextManager
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.peers.programs import program
from tests.peers.proxy import Proxy


def curl(proxy: Proxy, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run curl through the proxy."""
    command = [program("curl"), "-sS", "--max-time", "60", "-x", proxy.http_url, "--cacert", str(proxy.ca), *arguments]
    return subprocess.run(command, capture_output=True, check=check)


def trust(proxy: Proxy) -> ssl.SSLContext:
    """Return a client's TLS context that trusts the proxy's authority."""
    return ssl.create_default_context(cafile=str(proxy.ca))


def http_client(proxy: Proxy, **options: Any) -> httpx.Client:
    """Return an httpx client that goes through the proxy; HTTP/2 where it is offered."""
    return httpx.Client(proxy=proxy.http_url, verify=trust(proxy), trust_env=False, timeout=60, http2=True, **options)


def websocket(proxy: Proxy, url: str, **options: Any) -> AbstractContextManager[ClientConnection]:
    """Return a WebSocket connection through the proxy, to be entered."""
    context = trust(proxy) if url.startswith("wss:") else None
    connection: AbstractContextManager[ClientConnection] = connect(
        url, proxy=proxy.http_url, ssl=context, max_size=None, open_timeout=30, **options
    )
    return connection
