"""Known delays, each in its phase and nowhere else: in every mode, over every protocol, with real servers and clients.

The machine may be busy: a delay is a lower bound of its phase, and the other phases have to stay well below it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers import meddler
from tests.peers.api import Entry
from tests.peers.authority import Authority
from tests.peers.clients import trust
from tests.peers.meddler import DELAY, FAST, SLOW
from tests.peers.origin import Answer, Origin, Request, answer, origin
from tests.peers.proxy import HOST, Proxy, recording
from tests.peers.routes import Route, read_all
from tests.peers.slow import SYN_RETRY, Relay, StalledOrigin, UpstreamProxy

SCRIPT = Path(meddler.__file__)
AT_ONCE = 6
"""Exchanges that go on at a time."""

LEAST = int(DELAY * 900)
"""Milliseconds that a phase with a delay takes at least: a server's clock may have started a little before."""

MOST = int(DELAY * 700)
"""Milliseconds within which everything else has to be done."""

DISJOINT = ("blocked", "dns", "connect", "send", "wait", "receive")

type Timings = dict[str, int | None]


def timings_of(entry: Entry) -> Timings:
    return {phase: spent for phase, spent in entry["timings"].items() if phase != "startedAt"}


def finished(proxy: Proxy, path: str) -> Timings:
    entry = proxy.api.wait_for(path, lambda entry: entry["timings"]["receive"] is not None)
    return timings_of(entry)


def check_delays(timings: Timings, **least: int) -> None:
    """Hold every phase to its lower bound, or else to be short; `ssl` is a part of `connect`."""
    for phase, spent in timings.items():
        if phase in least:
            assert (spent or 0) >= least[phase], (phase, timings)
        elif not (phase == "connect" and "ssl" in least):
            assert (spent or 0) < MOST, (phase, timings)


def free_port() -> int:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        port: int = reserved.getsockname()[1]
    return port


# HTTP/1.1 in every mode


def slowly_answered(connection: socket.socket, _: Request) -> None:
    time.sleep(DELAY)
    connection.sendall(answer(b"late", "Connection: close"))


def slowly_sent(connection: socket.socket, _: Request) -> None:
    response = answer(b"in two parts", "Connection: close")
    connection.sendall(response[:-4])
    time.sleep(DELAY)
    connection.sendall(response[-4:])


ANSWERS: dict[str, Answer] = {
    "/fast": answer(b"fast", "Connection: close"),
    "/wait": slowly_answered,
    "/receive": slowly_sent,
}


@dataclass(frozen=True)
class Servers:
    """What the proxies of these tests talk to, by scheme: a server, one that is slow to accept, one with slow TLS."""

    plain: Origin
    tls: Origin
    slow_tls: Relay
    upstream: UpstreamProxy
    tls_upstream: UpstreamProxy

    def port(self, scheme: str) -> int:
        return (self.tls if scheme == "https" else self.plain).port


@pytest.fixture(scope="module")
def servers(authority: Authority) -> Iterator[Servers]:
    with origin() as plain, origin(authority.server_context()) as tls, ExitStack() as open_now:
        for server in (plain, tls):
            server.answers.update(ANSWERS)
        relays = (Relay(tls.port, DELAY), UpstreamProxy(DELAY), UpstreamProxy(DELAY, authority.server_context()))
        for relay in relays:
            open_now.callback(relay.close)
        yield Servers(plain, tls, *relays)


class Setting:
    """A proxy that listens in every mode, and its routes by name."""

    def __init__(self, proxy: Proxy, routes: dict[str, Route]) -> None:
        self.proxy = proxy
        self.routes = routes
        self.trust = trust(proxy)


class Modes:
    """Modes of a mitmdump, each on a port of its own."""

    def __init__(self) -> None:
        self.arguments: list[str] = []
        self.routes: dict[str, Route] = {}

    def add(self, name: str, kind: Any, mode: str) -> None:
        port = free_port()
        self.arguments += ["--mode", f"{mode}@{port}"]
        self.routes[name] = Route(kind, port)


@contextmanager
def listening(
    servers: Servers, authority: Authority, confdir: Path, trusting: tuple[str, ...], strategy: str
) -> Iterator[Setting]:
    modes = Modes()
    modes.add("regular", "proxy", "regular")
    modes.add("socks5", "socks5", "socks5")
    modes.add("upstream", "proxy", f"upstream:http://{HOST}:{servers.upstream.port}")
    modes.add("upstream over TLS", "proxy", f"upstream:https://{HOST}:{servers.tls_upstream.port}")
    modes.add("upstream, slow name", "proxy", f"upstream:http://{SLOW}:{servers.upstream.port}")
    modes.add("reverse, slow tls, https", "server", f"reverse:https://{HOST}:{servers.slow_tls.port}")
    for scheme, tls in (("http", None), ("https", authority.server_context())):
        stalled = StalledOrigin(tls)
        stalled.answers.update(ANSWERS)
        modes.add(f"reverse, stalled, {scheme}", "server", f"reverse:{scheme}://{HOST}:{stalled.port}")
        modes.add(f"reverse, slow name, {scheme}", "server", f"reverse:{scheme}://{SLOW}:{servers.port(scheme)}")
        modes.add(f"reverse, {scheme}", "server", f"reverse:{scheme}://{FAST}:{servers.port(scheme)}")
    options = ("--set", f"connection_strategy={strategy}", "-s", str(SCRIPT))
    with recording(confdir, *trusting, *options, *modes.arguments) as proxy:
        yield Setting(proxy, modes.routes)


@dataclass(frozen=True)
class Case:
    """One exchange and where its delay belongs."""

    strategy: str
    mode: str
    scheme: str
    delay: str
    phase: str

    def __str__(self) -> str:
        return f"{self.strategy} {self.mode}, {self.scheme}: slow {self.delay}"

    @property
    def path(self) -> str:
        """The resource that is asked for; its end is this case's alone."""
        resource = {"answer": "/wait", "body": "/receive"}.get(self.delay, "/fast")
        hold = {"addon": "hold=request&", "person": "intercept=request&", "headers": "hold=headers&"}
        name = f"{self.strategy}-{self.mode}-{self.scheme}-{self.delay}".replace(" ", "_").replace(",", "")
        return f"{resource}?{hold.get(self.delay, '')}case={name}"


EXCHANGE_DELAYS = {
    "addon": "blocked",
    "headers": "blocked",
    "person": "blocked",
    "upload": "send",
    "answer": "wait",
    "body": "receive",
}
CONNECTION_DELAYS = {"name": "dns", "accept": "connect", "TLS": "ssl"}
TUNNEL_DELAYS = {"name": "dns", "tunnel": "connect", "TLS": "ssl"}


def _cases() -> Iterator[Case]:
    for strategy in ("eager", "lazy"):
        for scheme in ("http", "https"):
            for mode in ("regular", "reverse", "socks5", "upstream", "upstream over TLS"):
                is_tunnelled = mode.startswith("upstream")
                delays = EXCHANGE_DELAYS | (TUNNEL_DELAYS if is_tunnelled else CONNECTION_DELAYS)
                if strategy == "lazy" and is_tunnelled:
                    # Through an upstream proxy nothing is connected before it is needed.
                    continue
                for delay, phase in delays.items():
                    if scheme == "http" and delay in ("TLS", "tunnel"):
                        continue
                    if mode == "upstream over TLS" and delay == "name":
                        continue
                    yield Case(strategy, mode, scheme, delay, phase)


CASES = list(_cases())


def place(case: Case, setting: Setting, servers: Servers, stalled: Callable[[str], Origin]) -> tuple[Route, str, int]:
    """Return the route of a case, and host and port of its server."""
    routes = setting.routes
    if case.mode == "reverse":
        name = {"name": "reverse, slow name", "accept": "reverse, stalled", "TLS": "reverse, slow tls"}
        return routes[f"{name.get(case.delay, 'reverse')}, {case.scheme}"], HOST, servers.port(case.scheme)
    if case.delay == "name" and case.mode == "upstream":
        return routes["upstream, slow name"], HOST, servers.port(case.scheme)
    route, port = routes[case.mode], servers.port(case.scheme)
    if case.delay == "accept":
        return route, HOST, stalled(case.scheme).port
    if case.delay == "TLS":
        return route, HOST, servers.slow_tls.port
    return route, SLOW if case.delay in ("name", "tunnel") else HOST, port


def exchange(case: Case, route: Route, host: str, port: int, trust: ssl.SSLContext) -> bytes:
    """Send the request of a case and return the response."""
    target = route.target(case.scheme, host, port, case.path)
    head = b"POST " + target + f" HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 10\r\n\r\n".encode()
    with route.open(case.scheme, host, port, trust) as connection:
        connection.sendall(head)
        if case.delay == "upload":
            time.sleep(DELAY)
        connection.sendall(b"0123456789")
        return read_all(connection)


@pytest.fixture(scope="module")
def settings(
    servers: Servers, authority: Authority, confdir: Path, trusting: tuple[str, ...]
) -> Iterator[dict[str, Setting]]:
    with ExitStack() as open_now:
        yield {
            strategy: open_now.enter_context(listening(servers, authority, confdir, trusting, strategy))
            for strategy in ("eager", "lazy")
        }


@pytest.fixture(scope="module")
def exchanges(settings: dict[str, Setting], servers: Servers, authority: Authority) -> dict[Case, Future[bytes]]:
    """The exchanges of all cases, which have all begun to go on, some at a time."""

    def stalled(scheme: str) -> Origin:
        server = StalledOrigin(authority.server_context() if scheme == "https" else None)
        server.answers.update(ANSWERS)
        return server

    def run(case: Case) -> bytes:
        setting = settings[case.strategy]
        return exchange(case, *place(case, setting, servers, stalled), setting.trust)

    threads = ThreadPoolExecutor(AT_ONCE)
    return {case: threads.submit(run, case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_delay_is_in_its_phase_and_nowhere_else(
    case: Case, settings: dict[str, Setting], exchanges: dict[Case, Future[bytes]]
) -> None:
    assert exchanges[case].result(60).startswith(b"HTTP/1.1 200 OK")
    timings = finished(settings[case.strategy].proxy, case.path)
    check_delays(timings, **{case.phase: int(SYN_RETRY * 900) if case.delay == "accept" else LEAST})
    has_name = case.delay == "name" or (case.mode == "reverse" and case.delay not in ("accept", "TLS"))
    has_tls = case.scheme == "https" or case.mode == "upstream over TLS"
    missing = {phase for phase, known in (("dns", has_name), ("ssl", has_tls)) if not known}
    assert {phase for phase, spent in timings.items() if spent is None} == missing
