"""Real clients of different TLS libraries: each entry has the fingerprints that a second reading of its bytes gives."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import curl_cffi
import httpx
import pytest

from tests.peers.api import PATIENCE
from tests.peers.clients import chromium
from tests.peers.hellos import fingerprints, hello_in_records
from tests.peers.programs import program
from tests.peers.proxy import Proxy, recording
from tests.peers.relay import Relay, relay

NODE = """
require("https").get(process.argv[1], { rejectUnauthorized: false }, (answer) => answer.pipe(process.stdout));
"""


@pytest.fixture(scope="module")
def reverse(confdir: Path, trusting: tuple[str, ...], h2_port: int) -> Iterator[tuple[Proxy, Relay]]:
    """A proxy in reverse mode before a server of HTTP/1.1 and HTTP/2, and a relay in front that notes what is sent."""
    with ExitStack() as stack:
        proxy = stack.enter_context(recording(confdir, *trusting, "--mode", f"reverse:https://localhost:{h2_port}"))
        yield proxy, stack.enter_context(relay(proxy.port))


def _run(name: str, *arguments: str) -> str:
    command = [program(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def _httpx(url: str, *, http2: bool) -> str:
    with httpx.Client(verify=False, trust_env=False, http2=http2, timeout=PATIENCE) as client:
        return client.get(url).text


def _curl_cffi(url: str, browser: Any) -> str:
    return str(curl_cffi.get(url, impersonate=browser, verify=False, timeout=PATIENCE).text)


CLIENTS: dict[str, Callable[[str, Path], str]] = {
    "curl": lambda url, _: _run("curl", "-sk", url),
    "wget": lambda url, _: _run("wget", "-qO-", "--no-check-certificate", url),
    "node": lambda url, _: _run("node", "-e", NODE, url),
    "chromium": lambda url, folder: chromium(folder, url),
    "httpx": lambda url, _: _httpx(url, http2=False),
    "httpx-http2": lambda url, _: _httpx(url, http2=True),
}

BROWSERS = ("chrome", "chrome99", "chrome_android", "edge", "firefox", "firefox133", "safari", "safari_ios", "tor145")

CLIENTS |= {f"as-{browser}": lambda url, _, browser=browser: _curl_cffi(url, browser) for browser in BROWSERS}  # type: ignore[misc]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_clients_fingerprints_are_those_of_its_bytes(
    reverse: tuple[Proxy, Relay], client: str, tmp_path: Path
) -> None:
    proxy, between = reverse
    path = f"/client/{client}"
    assert "hello" in CLIENTS[client](f"https://localhost:{between.port}{path}", tmp_path)
    entry = proxy.api.wait_for(path)
    tls = entry["tls"]
    hello = hello_in_records(between.sent[entry["clientAddr"]["port"]])
    assert {name: tls[name] for name in ("ja3", "ja4")} == fingerprints(hello)
    assert tls["tlsVersion"] == {"value": 0x0304, "name": "TLS 1.3"}
    assert tls["cipherSuite"]["name"] in {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"}
