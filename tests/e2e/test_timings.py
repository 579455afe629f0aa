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
from datetime import datetime
from pathlib import Path
from typing import Any

import curl_cffi
import pytest
from curl_cffi import CurlHttpVersion

from tests.peers import meddler
from tests.peers.api import Entry, eventually
from tests.peers.asgi import hypercorn
from tests.peers.authority import Authority
from tests.peers.clients import curl, http_client, trust
from tests.peers.listener import HOST
from tests.peers.meddler import DELAY, FAST, MISSING, SLOW
from tests.peers.origin import Answer, Origin, Request, answer, origin
from tests.peers.proxy import Proxy, recording
from tests.peers.routes import Route, read_all, read_head
from tests.peers.slow import SYN_RETRY, Relay, StalledOrigin, UpstreamProxy, slow_application
from tests.peers.websocket import CLOSE, KEY, accept, close_payload, frame

SCRIPT = Path(meddler.__file__)
AT_ONCE = 6
"""Exchanges that go on at a time."""

LEAST = int(DELAY * 750)
"""Milliseconds that a phase with a delay takes at least: the delay may have begun before the proxy could see it."""

MOST = LEAST
"""Milliseconds within which everything else has to be done: in a phase that is not its own, a delay is longer."""

ROUNDING = 2
"""Milliseconds by which clocks that are read in other processes, and rounded, may differ."""

LATENESS = 300
"""Milliseconds that the first bytes of a response may need to be seen on a busy machine."""

DISJOINT = ("blocked", "dns", "connect", "send", "wait", "receive")

type Timings = dict[str, int | None]


def timings_of(entry: Entry) -> Timings:
    return {phase: spent for phase, spent in entry["timings"].items() if phase != "startedAt"}


def is_over(entry: Entry) -> bool:
    return entry["timings"]["receive"] is not None


def finished(proxy: Proxy, path: str) -> Timings:
    return timings_of(proxy.api.wait_for(path, is_over))


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
    http3: int

    def port(self, scheme: str) -> int:
        return (self.tls if scheme == "https" else self.plain).port


@pytest.fixture(scope="module")
def servers(authority: Authority, slow_h2: int) -> Iterator[Servers]:
    with origin() as plain, origin(authority.server_context()) as tls, ExitStack() as open_now:
        for server in (plain, tls):
            server.answers.update(ANSWERS)
        relays = (Relay(tls.port, DELAY), UpstreamProxy(DELAY), UpstreamProxy(DELAY, authority.server_context()))
        for relay in relays:
            open_now.callback(relay.close)
        yield Servers(plain, tls, *relays, slow_h2)


class Setting:
    """A proxy that listens in every mode, and its routes by name; `proxy.port` is the one of regular mode."""

    def __init__(self, proxy: Proxy, routes: dict[str, Route]) -> None:
        self.proxy = proxy
        self.proxy.port = routes["regular"].port
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
    modes.add("reverse, HTTP/3", "server", f"reverse:https://{HOST}:{servers.http3}")
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
    check_delays(timings, **{case.phase: int(SYN_RETRY * 750) if case.delay == "accept" else LEAST})
    has_name = case.delay == "name" or (case.mode == "reverse" and case.delay not in ("accept", "TLS"))
    has_tls = case.scheme == "https" or case.mode == "upstream over TLS"
    missing = {phase for phase, known in (("dns", has_name), ("ssl", has_tls)) if not known}
    assert {phase for phase, spent in timings.items() if spent is None} == missing


# Connections that are shared, or were there before


def test_only_the_first_request_on_a_connection_accounts_for_it(settings: dict[str, Setting], servers: Servers) -> None:
    proxy = settings["eager"].proxy
    servers.tls.answers["/kept"] = answer(b"kept")
    urls = [servers.tls.url(f"/kept?number={number}") for number in range(3)]
    curl(proxy, *urls)
    entries = [proxy.api.wait_for(url, is_over) for url in urls]
    assert all(entries[0]["timings"][phase] is not None for phase in ("connect", "ssl"))
    for entry in entries[1:]:
        assert {phase for phase, spent in timings_of(entry).items() if spent is None} == {"dns", "connect", "ssl"}
    assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
    starts = [entry["timings"]["startedAt"] for entry in entries]
    assert starts == sorted(starts)


@pytest.mark.parametrize(("strategy", "scheme"), [(s, t) for s in ("eager", "lazy") for t in ("http", "https")])
def test_an_entry_starts_with_the_connection_that_was_made_before_its_request(
    strategy: str, scheme: str, settings: dict[str, Setting]
) -> None:
    setting = settings[strategy]
    path = f"/fast?case=before-{strategy}-{scheme}"
    began = time.time()
    with setting.routes[f"reverse, {scheme}"].open(scheme, HOST, 0, setting.trust) as connection:
        time.sleep(DELAY)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert read_all(connection).startswith(b"HTTP/1.1 200")
    entry = setting.proxy.api.wait_for(path, is_over)
    check_delays(timings_of(entry), **({"blocked": LEAST} if strategy == "eager" else {}))
    assert entry["timings"]["connect"] is not None
    started = datetime.fromisoformat(entry["timings"]["startedAt"]).timestamp()
    assert (started - began < DELAY * 0.9) is (strategy == "eager")


@pytest.fixture(scope="module")
def slow_h2(authority: Authority) -> Iterator[int]:
    """The port of a server that speaks HTTP/2 over TCP and HTTP/3 over UDP."""
    with hypercorn(authority.certificate, slow_application, quic=True) as port:
        yield port


def at_once(setting: Setting, urls: list[str]) -> None:
    """Ask for all of them on one HTTP/2 connection of a client, which offers that first."""
    dropped = [argument for url in urls for argument in ("-o", "/dev/null", url)]
    done = curl(setting.proxy, "--http2", "--parallel", "-w", "%{http_code}", *dropped)
    assert done.stdout == b"200" * len(urls)


def test_of_the_requests_that_wait_for_one_connection_the_first_accounts_for_it_and_the_others_are_blocked(
    settings: dict[str, Setting], slow_h2: int
) -> None:
    setting = settings["lazy"]
    relay = Relay(slow_h2, DELAY)
    urls = [f"https://{HOST}:{relay.port}/fast?case=shared-{number}" for number in range(4)]
    at_once(setting, urls)
    relay.close()
    entries = [setting.proxy.api.wait_for(url, is_over) for url in urls]
    assert {entry["httpVersion"] for entry in entries} == {"HTTP/2"}
    assert {entry["response"]["httpVersion"] for entry in entries} == {"HTTP/2"}
    first, *others = sorted(entries, key=lambda entry: entry["id"])
    check_delays(timings_of(first), ssl=LEAST)
    for other in others:
        check_delays(timings_of(other), blocked=LEAST)
        assert {phase for phase, spent in timings_of(other).items() if spent is None} == {"dns", "connect", "ssl"}


def test_requests_beyond_the_five_connections_that_a_server_is_given_are_blocked(
    settings: dict[str, Setting], servers: Servers
) -> None:
    setting = settings["lazy"]
    urls = [servers.tls.url(f"/wait?case=queue-{number}") for number in range(7)]
    at_once(setting, urls)
    entries = [setting.proxy.api.wait_for(url, is_over) for url in urls]
    assert {entry["httpVersion"] for entry in entries} == {"HTTP/2"}
    assert {entry["response"]["httpVersion"] for entry in entries} == {"HTTP/1.1"}
    assert all(entry["timings"]["wait"] >= LEAST and entry["timings"]["connect"] is not None for entry in entries)
    assert len([entry for entry in entries if entry["timings"]["blocked"] >= LEAST]) == 2


def test_requests_beyond_the_streams_that_a_server_allows_are_blocked(
    settings: dict[str, Setting], authority: Authority
) -> None:
    setting = settings["eager"]
    with hypercorn(authority.certificate, slow_application, streams=1) as port:
        urls = [f"https://{HOST}:{port}/wait?case=streams-{number}" for number in range(3)]
        at_once(setting, urls)
    entries = [setting.proxy.api.wait_for(url, is_over) for url in urls]
    assert {entry["response"]["httpVersion"] for entry in entries} == {"HTTP/2"}
    for number, entry in enumerate(sorted(entries, key=lambda entry: entry["timings"]["blocked"])):
        assert LEAST <= entry["timings"]["wait"] < DELAY * 1900
        assert number * LEAST <= entry["timings"]["blocked"]


# Other protocols


@pytest.mark.parametrize("phase", ["wait", "receive"])
def test_http_2_on_both_legs(phase: str, settings: dict[str, Setting], slow_h2: int) -> None:
    url = f"https://{HOST}:{slow_h2}/{phase}?case=h2"
    with http_client(settings["eager"].proxy) as client:
        assert client.get(url).text == "one two"
    check_delays(finished(settings["eager"].proxy, url), **{phase: LEAST})


def test_a_slow_upload_over_http_2(settings: dict[str, Setting], slow_h2: int) -> None:
    setting = settings["eager"]
    url = f"https://{HOST}:{slow_h2}/fast?case=h2-upload"

    def body() -> Iterator[bytes]:
        yield b"first"
        time.sleep(DELAY)
        yield b"second"

    with http_client(setting.proxy) as client:
        assert client.post(url, content=body()).status_code == 200
    check_delays(finished(setting.proxy, url), send=LEAST)


@pytest.mark.parametrize("phase", ["wait", "receive"])
def test_http_3_on_both_legs(phase: str, settings: dict[str, Setting]) -> None:
    setting = settings["eager"]
    path = f"/{phase}?case=h3"
    url = f"https://{HOST}:{setting.routes['reverse, HTTP/3'].port}{path}"
    response = curl_cffi.get(url, http_version=CurlHttpVersion.V3ONLY, verify=False, timeout=60)
    assert response.text == "one two"
    entry = setting.proxy.api.wait_for(path, is_over)
    assert entry["httpVersion"] == entry["response"]["httpVersion"] == "HTTP/3"
    check_delays(timings_of(entry), **{phase: LEAST})
    assert entry["timings"]["dns"] is None
    assert entry["timings"]["connect"] >= entry["timings"]["ssl"]


def test_of_a_websocket_only_its_handshake_counts(settings: dict[str, Setting], servers: Servers) -> None:
    setting = settings["eager"]

    def late(connection: socket.socket, request: Request) -> None:
        time.sleep(DELAY)
        accept(connection, request)
        time.sleep(DELAY)
        connection.sendall(frame(CLOSE, close_payload(1000)))

    servers.plain.answers["/socket"] = late
    host, port = HOST, servers.plain.port
    route = setting.routes["socks5"]
    fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    with route.open("http", host, port, setting.trust) as connection:
        head = f"GET /socket HTTP/1.1\r\nHost: {host}:{port}\r\n{fields}".encode() + KEY + b"\r\n\r\n"
        connection.sendall(head)
        assert read_head(connection).startswith(b"HTTP/1.1 101")
        assert connection.recv(2) == frame(CLOSE, close_payload(1000))[:2]
        connection.sendall(frame(CLOSE, close_payload(1000), masked=True))
    entry = setting.proxy.api.wait_for("/socket", lambda entry: entry["isWebSocket"])
    eventually(lambda: setting.proxy.api.messages(entry), bool)
    check_delays(timings_of(entry), wait=LEAST)
    assert setting.proxy.api.get(entry["id"])["timings"] == entry["timings"]


# Requests and responses that are passed on as they come


def ask(setting: Setting, port: int, path: str, *parts: bytes, pause: float = DELAY) -> bytes:
    """Send a request in parts with pauses in between, through SOCKS, and return the response."""
    route = setting.routes["socks5"]
    with route.open("http", HOST, port, setting.trust) as connection:
        length = sum(map(len, parts))
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        for number, part in enumerate(parts):
            time.sleep(pause if number else 0)
            connection.sendall(part)
        return read_all(connection)


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
def test_a_request_that_is_passed_on_as_it_comes(strategy: str, settings: dict[str, Setting], servers: Servers) -> None:
    path = f"/fast?stream&case=passed-on-{strategy}"
    ask(settings[strategy], servers.plain.port, path, b"first", b"second")
    timings = finished(settings[strategy].proxy, path)
    check_delays(timings, send=LEAST)
    assert timings["connect"] is not None


def test_a_response_that_is_passed_on_as_it_comes(settings: dict[str, Setting], servers: Servers) -> None:
    path = "/receive?stream&case=passed-on"
    ask(settings["eager"], servers.plain.port, path)
    check_delays(finished(settings["eager"].proxy, path), receive=LEAST)


def test_a_response_that_begins_before_its_request_has_ended_is_received_from_there(
    settings: dict[str, Setting],
) -> None:
    setting = settings["eager"]
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                read_head(connection)
                connection.sendall(answer(b"early, and then late")[:-4])
                while b"second" not in connection.recv(100):
                    pass
                connection.sendall(b"late")

        with ThreadPoolExecutor(1) as threads:
            serving = threads.submit(serve)
            path = "/early?stream"
            with setting.routes["socks5"].open("http", HOST, port, setting.trust) as client:
                client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nfirst ".encode())
                read_head(client)
                time.sleep(DELAY)
                client.sendall(b"second")
                assert client.recv(100)
            serving.result(30)
    check_delays(finished(setting.proxy, path), receive=LEAST)


# Other ends


def ended(setting: Setting, path: str, *phases: str) -> Timings:
    """Wait until these phases of an entry are over, and return all."""
    return timings_of(
        setting.proxy.api.wait_for(path, lambda entry: all(entry["timings"][phase] is not None for phase in phases))
    )


def nulls(timings: Timings) -> set[str]:
    return {phase for phase, spent in timings.items() if spent is None}


def test_a_response_that_an_addon_makes_was_not_waited_for(settings: dict[str, Setting], servers: Servers) -> None:
    path = "/fast?answer&hold=request&case=answered"
    for strategy in ("eager", "lazy"):
        setting = settings[strategy]
        assert curl(setting.proxy, servers.plain.url(path)).stdout == b"made by an addon"
        timings = finished(setting.proxy, path)
        check_delays(timings, blocked=LEAST)
        assert nulls(timings) == {"dns", "connect", "ssl", "wait"}


def test_a_request_that_an_addon_kills_was_blocked(settings: dict[str, Setting], servers: Servers) -> None:
    path = "/fast?kill&hold=request&case=killed"
    curl(settings["lazy"].proxy, servers.plain.url(path), check=False)
    timings = ended(settings["lazy"], path, "blocked")
    check_delays(timings, blocked=LEAST)
    assert nulls(timings) == {"dns", "connect", "ssl", "wait", "receive"}


def test_a_response_that_an_addon_holds_had_been_received_by_then(
    settings: dict[str, Setting], servers: Servers
) -> None:
    path = "/fast?hold=response&case=held"
    curl(settings["lazy"].proxy, servers.plain.url(path))
    check_delays(finished(settings["lazy"].proxy, path))


def test_a_name_that_cannot_be_resolved_takes_its_time_in_dns(settings: dict[str, Setting]) -> None:
    url = f"http://{MISSING}/?case=missing"
    curl(settings["lazy"].proxy, url, check=False)
    timings = ended(settings["lazy"], url, "dns", "blocked")
    check_delays(timings, dns=LEAST)
    assert nulls(timings) == {"connect", "ssl", "wait", "receive"}


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
def test_a_server_that_refuses_has_connect_and_nothing_after_it(strategy: str, settings: dict[str, Setting]) -> None:
    setting = settings[strategy]
    url = f"http://{HOST}:{free_port()}/?case=refused"
    curl(setting.proxy, url, check=False)
    timings = ended(setting, url, "connect")
    check_delays(timings)
    assert nulls(timings) == {"dns", "ssl", "wait", "receive"}


def test_a_connect_that_fails_takes_its_time_in_the_phase_that_has_failed(settings: dict[str, Setting]) -> None:
    curl(settings["eager"].proxy, f"https://{MISSING}:44300/", check=False)
    timings = ended(settings["eager"], ":44300/", "dns", "blocked")
    check_delays(timings, dns=LEAST)


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
def test_a_tls_handshake_that_fails_takes_its_time_in_ssl(strategy: str, settings: dict[str, Setting]) -> None:
    setting = settings[strategy]

    def answer_plainly() -> None:
        connection, _ = listener.accept()
        with connection:
            time.sleep(DELAY)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server((HOST, 0)) as listener, ThreadPoolExecutor(1) as threads:
        serving = threads.submit(answer_plainly)
        url = f"https://{HOST}:{listener.getsockname()[1]}/?case=no-tls"
        curl(setting.proxy, "-k", url, check=False)
        serving.result(30)
    timings = ended(setting, url, "ssl", "connect")
    check_delays(timings, ssl=LEAST)
    assert {"wait", "receive"} <= nulls(timings)


def test_what_a_server_takes_before_it_breaks_off_is_waiting(settings: dict[str, Setting], servers: Servers) -> None:
    def break_off(connection: socket.socket, _: Request) -> None:
        time.sleep(DELAY)
        connection.close()

    servers.plain.answers["/broken-off"] = break_off
    curl(settings["lazy"].proxy, servers.plain.url("/broken-off"), check=False)
    check_delays(ended(settings["lazy"], "/broken-off", "wait"), wait=LEAST)


def wait_for_the_end(connection: socket.socket, _: Request) -> None:
    read_all(connection)


def test_a_client_that_goes_away_ends_the_waiting(settings: dict[str, Setting], servers: Servers) -> None:
    setting = settings["eager"]
    servers.plain.answers["/left"] = wait_for_the_end
    with setting.routes["socks5"].open("http", HOST, servers.plain.port, setting.trust) as client:
        client.sendall(b"GET /left HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(DELAY)
    timings = ended(setting, "/left", "wait")
    check_delays(timings, wait=LEAST)
    assert timings["receive"] is None


# Other observers


def test_phases_lie_between_what_the_server_and_the_client_have_measured(
    settings: dict[str, Setting], servers: Servers
) -> None:
    """The server's own times lie inside of the proxy's phases, and these inside of the times of curl."""
    spent: dict[str, float] = {}

    def measured(connection: socket.socket, _: Request) -> None:
        at = [time.monotonic()]
        response = answer(b"0123456789", "Connection: close")
        for part in (response[:-5], response[-5:]):
            time.sleep(DELAY / 2)
            at.append(time.monotonic())
            connection.sendall(part)
        spent["wait"], spent["receive"] = at[1] - at[0], at[2] - at[1]

    for server in (servers.plain, servers.tls):
        server.answers["/measured"] = measured
    names = ("namelookup", "connect", "appconnect", "pretransfer", "starttransfer", "total")
    for url in (servers.plain.url("/measured?in=http"), servers.tls.url("/measured?in=https")):
        setting = settings["eager"]
        form = " ".join(f"%{{time_{name}}}" for name in names)
        done = curl(setting.proxy, "-o", "/dev/null", "-w", form, url)
        seen = dict(zip(names, (float(text) * 1000 for text in done.stdout.split()), strict=True))
        timings = finished(setting.proxy, url)
        known = {phase: value or 0 for phase, value in timings.items()}
        assert spent["wait"] * 1000 - ROUNDING <= known["wait"]
        # The first part is on its way while the server sleeps on.
        assert spent["receive"] * 1000 - LATENESS <= known["receive"]
        after_request = known["wait"] + known["receive"]
        assert after_request <= seen["total"] - max(seen["connect"], seen["appconnect"]) + ROUNDING
        assert sum(known[phase] for phase in DISJOINT) <= seen["total"] - seen["connect"] + ROUNDING
        if url.startswith("https:"):
            assert known["connect"] <= seen["appconnect"] - seen["connect"] + ROUNDING
