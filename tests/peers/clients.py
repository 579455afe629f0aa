"""Real clients that go through a proxy."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
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


def chromium(folder: Path, url: str, *flags: str) -> str:
    """Let a headless Chromium, which trusts every certificate over TCP, load a page; return what the page then is.

    `folder` is its profile's. It resolves no other name than localhost, so it talks to this machine alone.
    """
    arguments = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--ignore-certificate-errors",
        "--host-resolver-rules=MAP localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={folder}",
    )
    command = [program("chromium"), *arguments, *flags, "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
