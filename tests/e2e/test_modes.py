"""Every mode of mitmproxy: what a client asks for through it is recorded with the addresses and names it had there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.clients import curl, http_client
from tests.peers.listener import HOST
from tests.peers.origin import Origin, answer
from tests.peers.proxy import LISTENING, Proxy, recording, running


@pytest.fixture(scope="module")
def socks(confdir: Path, trusting: tuple[str, ...]) -> Iterator[Proxy]:
    with recording(confdir, *trusting, "--mode", "socks5") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def upstream_port(confdir: Path, trusting: tuple[str, ...]) -> Iterator[int]:
    """A proxy that another one sends everything to; it does not record."""
    options = ("--listen-host", HOST, "--listen-port", "0", "--set", f"confdir={confdir}")
    with running(*options, *trusting, "--set", "connection_strategy=lazy") as mitmdump:
        yield int(mitmdump.wait_for_line(LISTENING))


@pytest.fixture(scope="module")
def chained(confdir: Path, upstream_port: int) -> Iterator[Proxy]:
    mode = f"upstream:http://{HOST}:{upstream_port}"
    with recording(
        confdir, "--mode", mode, "--set", f"ssl_verify_upstream_trusted_ca={confdir}/mitmproxy-ca-cert.pem"
    ) as proxy:
        yield proxy


def facts(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry says of the way that a request took."""
    return {
        "url": entry["url"],
        "remote": entry["remoteAddr"],
        "status": entry["response"]["statusCode"],
        "version": entry["httpVersion"],
        "tls": entry["tls"]["tlsVersion"] and entry["tls"]["tlsVersion"]["name"],
        "http2": entry["http2"] and entry["http2"]["streamId"],
    }


def check_tls(entry: dict[str, Any]) -> None:
    tls = entry["tls"]
    assert tls["tlsVersion"] == {"value": 772, "name": "TLS 1.3"}
    assert tls["cipherSuite"]["name"].startswith("TLS_")
    assert tls["ja3"]["string"].startswith("771,")
    assert tls["ja4"]["hashed"].startswith("t13d")


def test_regular_mode_with_http(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/regular"] = answer(b"r")
    curl(proxy, plain_origin.url("/regular", "localhost"))
    assert facts(proxy.api.wait_for("/regular")) == {
        "url": f"http://localhost:{plain_origin.port}/regular",
        "remote": {"ip": HOST, "port": plain_origin.port},
        "status": 200,
        "version": "HTTP/1.1",
        "tls": None,
        "http2": None,
    }


def test_regular_mode_with_https_and_http_2(proxy: Proxy, h2_port: int) -> None:
    with http_client(proxy) as client:
        assert client.post(f"https://localhost:{h2_port}/regular-h2?x=1", content=b"sent").text == "sent"
    entry = proxy.api.wait_for("/regular-h2?x=1")
    check_tls(entry)
    assert facts(entry) == {
        "url": f"https://localhost:{h2_port}/regular-h2?x=1",
        "remote": {"ip": HOST, "port": h2_port},
        "status": 200,
        "version": "HTTP/2",
        "tls": "TLS 1.3",
        "http2": 1,
    }
    assert entry["request"]["headers"][:4] == [
        [":method", "POST"],
        [":authority", f"localhost:{h2_port}"],
        [":scheme", "https"],
        [":path", "/regular-h2?x=1"],
    ]
    assert entry["response"]["httpVersion"] == "HTTP/2"
    assert entry["response"]["statusText"] is None
    assert entry["response"]["headers"][0] == [":status", "200"]
    assert [field for field in entry["response"]["headers"] if field[0] == "x-twice"] == [
        ["x-twice", "1"],
        ["x-twice", "2"],
    ]
    assert proxy.api.body("request", entry) == "sent"
    assert proxy.api.body("response", entry) == "sent"
    ids = {entry["id"], entry["tls"]["connectionId"], entry["http2"]["connectionId"], proxy.api.session()}
    assert len(ids) == 4


def test_requests_on_one_http_2_connection_have_its_id_and_streams_of_their_own(proxy: Proxy, h2_port: int) -> None:
    with http_client(proxy) as client:
        for number in range(3):
            client.get(f"https://localhost:{h2_port}/shared-{number}")
    entries = proxy.api.wait(lambda entry: "/shared-" in entry["url"] and entry["response"], count=3)
    assert [entry["http2"]["streamId"] for entry in entries] == [1, 3, 5]
    assert len({entry["http2"]["connectionId"] for entry in entries}) == 1
    assert len({entry["tls"]["connectionId"] for entry in entries}) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_reverse_mode(
    confdir: Path, trusting: tuple[str, ...], plain_origin: Origin, tls_origin: Origin, scheme: str
) -> None:
    origin = {"http": plain_origin, "https": tls_origin}[scheme]
    origin.answers["/latin-é"] = answer(b"l")
    with recording(confdir, *trusting, "--mode", f"reverse:{scheme}://localhost:{origin.port}") as reverse:
        with socket.create_connection((HOST, reverse.port)) as client:
            client.sendall(b"GET /latin-\xe9 HTTP/1.1\r\nHost: asked.test\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert facts(reverse.api.wait_for("/latin-é")) == {
            "url": f"{scheme}://localhost:{origin.port}/latin-é",
            "remote": {"ip": HOST, "port": origin.port},
            "status": 200,
            "version": "HTTP/1.1",
            "tls": None,
            "http2": None,
        }


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_upstream_mode(
    chained: Proxy, upstream_port: int, plain_origin: Origin, tls_origin: Origin, scheme: str
) -> None:
    origin = {"http": plain_origin, "https": tls_origin}[scheme]
    origin.answers["/chained"] = answer(b"c")
    assert curl(chained, "--http1.1", origin.url("/chained", "localhost")).stdout == b"c"
    entry = chained.api.wait_for(f":{origin.port}/chained")
    assert facts(entry) == {
        "url": f"{scheme}://localhost:{origin.port}/chained",
        "remote": {"ip": HOST, "port": upstream_port},
        "status": 200,
        "version": "HTTP/1.1",
        "tls": None if scheme == "http" else "TLS 1.3",
        "http2": None,
    }
    assert entry["timings"]["dns"] is None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_socks5_mode(socks: Proxy, plain_origin: Origin, tls_origin: Origin, scheme: str) -> None:
    origin = {"http": plain_origin, "https": tls_origin}[scheme]
    origin.answers["/socks"] = answer(b"s")
    assert curl(socks, "-x", f"socks5h://{HOST}:{socks.port}", origin.url("/socks", "localhost")).stdout == b"s"
    entry = socks.api.wait_for(f":{origin.port}/socks")
    assert facts(entry) == {
        "url": f"{scheme}://localhost:{origin.port}/socks",
        "remote": {"ip": HOST, "port": origin.port},
        "status": 200,
        "version": "HTTP/1.1",
        "tls": None if scheme == "http" else "TLS 1.3",
        "http2": None,
    }


def test_a_port_of_the_proxy_is_the_listener_port(proxy: Proxy, socks: Proxy) -> None:
    for running_proxy in (proxy, socks):
        session = running_proxy.api.session()
        assert running_proxy.api.call("sessions/get_listener_port", sessionId=session) == running_proxy.port


def test_a_server_whose_certificate_is_not_trusted_leaves_a_failed_entry(confdir: Path, tls_origin: Origin) -> None:
    tls_origin.answers["/distrusted"] = answer(b"no")
    with recording(confdir) as proxy:
        curl(proxy, tls_origin.url("/distrusted"), check=False)
        entry = proxy.api.wait_for(f":{tls_origin.port}/distrusted", lambda _: True)
        assert entry["response"] is None
        assert entry["tls"]["tlsVersion"]["name"] == "TLS 1.3"
