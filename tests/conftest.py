"""What the end-to-end tests share: one authority, one configuration folder, one recording proxy in regular mode."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.asgi import hypercorn
from tests.peers.authority import Authority
from tests.peers.origin import Origin, origin
from tests.peers.proxy import Proxy, recording


@pytest.fixture(scope="session", autouse=True)
def _no_proxy_settings() -> None:
    """Keep the clients of the tests from the proxies of the machine that they run on."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mitmproxy's configuration folder: its authority is made once."""
    return tmp_path_factory.mktemp("confdir")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def trusting(authority: Authority) -> tuple[str, ...]:
    """Arguments of a mitmdump that trusts the servers of the tests."""
    return ("--set", f"ssl_verify_upstream_trusted_ca={authority.ca}")


@pytest.fixture(scope="session")
def proxy(confdir: Path, trusting: tuple[str, ...]) -> Iterator[Proxy]:
    """A recording proxy in regular mode, which the tests of a run share: each uses paths of its own."""
    with recording(confdir, *trusting) as running:
        yield running


@pytest.fixture(scope="session")
def plain_origin() -> Iterator[Origin]:
    with origin() as server:
        yield server


@pytest.fixture(scope="session")
def tls_origin(authority: Authority) -> Iterator[Origin]:
    with origin(authority.server_context()) as server:
        yield server


@pytest.fixture(scope="session")
def h2_port(authority: Authority) -> Iterator[int]:
    """The port of a hypercorn over TLS."""
    with hypercorn(authority.certificate) as port:
        yield port
