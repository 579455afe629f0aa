"""HTTP/2 through the proxy: each entry says which stream it was and what crossed the wire."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import curl_cffi
import h2.events
import httpx
import pytest

from tests.peers.api import Entry, eventually
from tests.peers.authority import Authority
from tests.peers.clients import curl, trust
from tests.peers.http2 import Http2Origin, Http2Peer, answering, http2_client, http2_origin
from tests.peers.listener import HOST
from tests.peers.nghttp2 import h2load, nghttp, nghttpd
from tests.peers.origin import Origin, answer
from tests.peers.programs import program
from tests.peers.proxy import Proxy, recording


@pytest.fixture(scope="module")
def h2_origin(authority: Authority) -> Iterator[Http2Origin]:
    with http2_origin(authority.server_context(alpn=("h2",))) as server:
        yield server


def test_an_exchange_is_recorded_whole(proxy: Proxy, h2_origin: Http2Origin) -> None:
    h2_origin.answers["/h2-whole?a=%20"] = answering(b"hello", ("x-twice", "1"), ("x-other", "2"), ("x-twice", "3"))
    with http2_client(proxy, h2_origin.port) as client:
        fields = [("cookie", "a=1"), ("x-twice", "1"), ("cookie", "b=2"), ("x-twice", "2"), ("x-empty", "")]
        stream = client.request("/h2-whole?a=%20", *fields, order="psam")
        assert client.body(stream) == b"hello"
        address = client.socket.getsockname()
    entry = proxy.api.wait_for(
        "/h2-whole?a=%20", lambda entry: entry["process"] and entry["timings"]["receive"] is not None
    )
    assert isinstance(entry["timings"].pop("startedAt"), str)
    assert {phase for phase, spent in entry.pop("timings").items() if spent is None} == set()
    assert entry.pop("tls")["tlsVersion"]["name"] == "TLS 1.3"
    assert entry.pop("process")["name"].startswith("python")
    assert entry == {
        "id": entry["id"],
        "url": f"https://localhost:{h2_origin.port}/h2-whole?a=%20",
        "clientAddr": {"ip": HOST, "port": address[1]},
        "remoteAddr": {"ip": HOST, "port": h2_origin.port},
        "httpVersion": "HTTP/2",
        "transactionType": "request",
        "request": {
            "method": "GET",
            "path": "/h2-whole?a=%20",
            "httpVersion": "HTTP/2",
            "headers": [
                [":path", "/h2-whole?a=%20"],
                [":scheme", "https"],
                [":authority", f"localhost:{h2_origin.port}"],
                [":method", "GET"],
                ["cookie", "a=1"],
                ["x-twice", "1"],
                ["cookie", "b=2"],
                ["x-twice", "2"],
                ["x-empty", ""],
            ],
            "bodySize": 0,
        },
        "response": {
            "httpVersion": "HTTP/2",
            "statusCode": 200,
            "statusText": None,
            "headers": [[":status", "200"], ["x-twice", "1"], ["x-other", "2"], ["x-twice", "3"]],
            "bodySize": 5,
        },
        "isWebSocket": False,
        "http2": {"connectionId": entry["http2"]["connectionId"], "streamId": 1},
    }
    assert proxy.api.body("request", entry) == ""
    assert proxy.api.body("response", entry) == "hello"


ORDERS = {"chrome136": "masp", "firefox133": "mpas", "safari155": "mspa", "safari184": "msap"}
"""The initials of the pseudo-header fields as browsers order them."""

SAID = re.compile(rb"^\* .*\[(:?[\w-]+): ([^\]]*)\]\r?$", re.MULTILINE)
"""How curl says which field it sends."""


@pytest.mark.parametrize("browser", ORDERS)
def test_the_order_of_pseudo_header_fields_is_the_client_s(proxy: Proxy, h2_origin: Http2Origin, browser: str) -> None:
    path = f"/h2-as-{browser}"
    h2_origin.answers[path] = answering(b"hello")
    url = f"https://localhost:{h2_origin.port}{path}"
    response = curl_cffi.get(url, impersonate=browser, proxy=proxy.http_url, verify=str(proxy.ca))  # type: ignore[arg-type]
    assert response.http_version == 3  # libcurl's name for HTTP/2
    entry = proxy.api.wait_for(path)
    names = [name for name, _ in entry["request"]["headers"]]
    assert names[:4] == [{"m": ":method", "a": ":authority", "s": ":scheme", "p": ":path"}[i] for i in ORDERS[browser]]
    assert not any(name.startswith(":") for name in names[4:])
    assert entry["http2"]["streamId"] in (1, 3, 15)


def test_the_order_that_curl_says_it_has_sent_is_recorded(proxy: Proxy, h2_origin: Http2Origin) -> None:
    h2_origin.answers["/h2-curl"] = answering(b"hello")
    url = f"https://localhost:{h2_origin.port}/h2-curl"
    done = curl(proxy, "-v", "--http2", url, "-H", "X-Upper: 1", "-b", "a=1; b=2", "-A", "me")
    entry = proxy.api.wait_for("/h2-curl")
    fields = [[name.decode(), value.decode()] for name, value in SAID.findall(done.stderr)]
    assert len(fields) == 8
    assert entry["request"]["headers"] == fields


def test_a_request_without_authority_has_none_in_its_headers(proxy: Proxy, h2_origin: Http2Origin) -> None:
    h2_origin.answers["/h2-host"] = answering(b"")
    with http2_client(proxy, h2_origin.port) as client:
        client.body(client.request("/h2-host", ("host", "example.test"), order="msp"))
    entry = proxy.api.wait_for("/h2-host")
    assert entry["request"]["headers"] == [
        [":method", "GET"],
        [":scheme", "https"],
        [":path", "/h2-host"],
        ["host", "example.test"],
    ]
    assert entry["url"] == "https://example.test/h2-host"


def test_trailers_follow_the_headers_in_both_directions(proxy: Proxy, h2_origin: Http2Origin) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        peer.wait_for(h2.events.TrailersReceived, stream)
        peer.headers(stream, [(":status", "200"), ("trailer", "x-sum")])
        peer.data(stream, b"down")
        peer.headers(stream, [("x-sum", "2"), ("x-sum", "3")], end=True)

    h2_origin.answers["/h2-trailers"] = reply
    with http2_client(proxy, h2_origin.port) as client:
        stream = client.request("/h2-trailers", ("te", "trailers"), end=False, method="POST")
        client.data(stream, b"up")
        client.headers(stream, [("x-sum", "1")], end=True)
        client.wait_for(h2.events.TrailersReceived, stream)
    entry = proxy.api.wait_for("/h2-trailers")
    assert entry["request"]["headers"][4:] == [["te", "trailers"], ["x-sum", "1"]]
    assert entry["request"]["bodySize"] == 2
    assert entry["response"]["headers"] == [[":status", "200"], ["trailer", "x-sum"], ["x-sum", "2"], ["x-sum", "3"]]
    assert entry["response"]["bodySize"] == 4


@pytest.fixture(scope="module")
def lazy_proxy(confdir: Path, trusting: tuple[str, ...]) -> Iterator[Proxy]:
    """One that speaks HTTP/2 with a client before it knows what the server speaks."""
    with recording(confdir, *trusting, "--set", "connection_strategy=lazy") as running:
        yield running


def test_an_http1_server_behind_an_http2_client(lazy_proxy: Proxy, tls_origin: Origin) -> None:
    """Between them mitmproxy joins the cookies and adds a Host field; the entry has what the client sent."""
    proxy = lazy_proxy
    tls_origin.answers["/h2-down"] = answer(b"one", "X-Case: Kept")
    with http2_client(proxy, tls_origin.port) as client:
        fields = [("cookie", "a=1"), ("content-length", "2"), ("cookie", "b=2")]
        stream = client.request("/h2-down", *fields, end=False, order="mpas", method="POST")
        client.data(stream, b"up", end=True)
        assert client.body(stream) == b"one"
    entry = proxy.api.wait_for("/h2-down")
    (request,) = [request for request in tls_origin.requests if request.path == "/h2-down"]
    assert b"cookie: a=1; b=2" in request.head.lower()
    assert request.body == b"up"
    assert entry["httpVersion"] == entry["request"]["httpVersion"] == "HTTP/2"
    assert entry["request"]["headers"] == [
        [":method", "POST"],
        [":path", "/h2-down"],
        [":authority", f"localhost:{tls_origin.port}"],
        [":scheme", "https"],
        ["cookie", "a=1"],
        ["content-length", "2"],
        ["cookie", "b=2"],
    ]
    assert entry["response"]["httpVersion"] == "HTTP/1.1"
    assert entry["response"]["statusText"] == "OK"
    assert entry["response"]["headers"] == [["Content-Length", "3"], ["X-Case", "Kept"]]
    assert entry["http2"]["streamId"] == stream


# Streams


def test_interleaved_streams_keep_apart(proxy: Proxy, h2_origin: Http2Origin) -> None:
    count = 40
    streams: dict[str, int] = {}

    def reply(peer: Http2Peer, stream: int) -> None:
        streams[str(stream)] = stream
        peer.headers(stream, [(":status", "200"), ("x-stream", str(stream))])
        if len(streams) < count:
            return
        for other in reversed(streams.values()):
            peer.data(other, b"first ")
        for other in streams.values():
            peer.data(other, b"last", end=True)

    for number in range(count):
        h2_origin.answers[f"/h2-interleaved-{number}"] = reply
    with http2_client(proxy, h2_origin.port) as client:
        asked = {client.request(f"/h2-interleaved-{number}"): number for number in range(count)}
        assert {client.body(stream) for stream in asked} == {b"first last"}
    entries = proxy.api.wait(lambda entry: "/h2-interleaved-" in entry["url"] and is_whole(entry), count=count)
    assert {entry["http2"]["streamId"]: int(entry["url"].rpartition("-")[2]) for entry in entries} == asked
    assert len({entry["http2"]["connectionId"] for entry in entries}) == 1
    assert {proxy.api.body("response", entry) for entry in entries} == {"first last"}


def is_whole(entry: Entry) -> bool:
    return entry["response"] is not None and entry["response"]["bodySize"] is not None


# Ends before the end


def test_a_client_that_resets_before_the_response(proxy: Proxy, h2_origin: Http2Origin) -> None:
    h2_origin.answers["/h2-impatient"] = lambda peer, stream: peer.wait_for(h2.events.StreamReset, stream)
    with http2_client(proxy, h2_origin.port) as client:
        stream = client.request("/h2-impatient")
        entry = proxy.api.wait_for("/h2-impatient", lambda entry: entry["request"]["bodySize"] == 0)
        client.reset(stream)
        ended = proxy.api.wait_for("/h2-impatient", lambda entry: entry["remoteAddr"])
    assert ended["response"] is None
    assert ended["http2"] == entry["http2"]
    assert proxy.api.body("response", ended) is None


def test_a_client_that_resets_its_upload_leaves_what_it_has_sent(proxy: Proxy, h2_origin: Http2Origin) -> None:
    with http2_client(proxy, h2_origin.port) as client:
        stream = client.request("/h2-abandoned", end=False, method="POST")
        client.data(stream, b"half")
        client.settle()
        client.reset(stream)
        client.settle()
        entry = proxy.api.wait_for("/h2-abandoned", lambda _: True)
        eventually(lambda: proxy.api.body("request", entry), lambda body: body == "half")
    entry = proxy.api.wait_for("/h2-abandoned", lambda _: True)
    assert entry["request"]["bodySize"] is None
    assert entry["response"] is None


@pytest.mark.parametrize("what", ["nothing", "headers", "half"])
def test_a_server_that_resets_leaves_what_it_has_sent(proxy: Proxy, h2_origin: Http2Origin, what: str) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        if what != "nothing":
            peer.headers(stream, [(":status", "200"), ("content-length", "10")])
        if what == "half":
            peer.data(stream, b"half")
        peer.reset(stream, 2)

    h2_origin.answers[f"/h2-reset-{what}"] = reply
    with http2_client(proxy, h2_origin.port) as client:
        stream = client.request(f"/h2-reset-{what}")
        client.wait_for(h2.events.StreamEnded if what == "nothing" else h2.events.Event, stream)
        entry = proxy.api.wait_for(f"/h2-reset-{what}", lambda entry: entry["remoteAddr"])
    assert entry["http2"]["streamId"] == stream
    if what == "nothing":
        assert entry["response"] is None
        return
    assert entry["response"]["headers"] == [[":status", "200"], ["content-length", "10"]]
    assert entry["response"]["bodySize"] is None
    expected = {"headers": (None, ""), "half": ("half",)}[what]
    eventually(lambda: proxy.api.body("response", entry), lambda body: body in expected)


def test_a_goaway_in_the_middle_ends_what_is_open_and_the_client_goes_on(proxy: Proxy, h2_origin: Http2Origin) -> None:
    """mitmproxy gives up all streams of a server connection that is going away; the next one has a new connection."""
    h2_origin.answers["/h2-going"] = lambda peer, _: peer.go_away(last_stream_id=0)
    h2_origin.answers["/h2-stayed"] = answering(b"here")
    with http2_client(proxy, h2_origin.port) as client:
        connections = h2_origin.connections
        client.body(client.request("/h2-going"))
        assert client.body(client.request("/h2-stayed")) == b"here"
        assert h2_origin.connections == connections + 1
    going = proxy.api.wait_for("/h2-going", lambda entry: entry["remoteAddr"])
    stayed = proxy.api.wait_for("/h2-stayed")
    assert going["response"] is None
    assert going["http2"]["connectionId"] == stayed["http2"]["connectionId"]
    assert (going["http2"]["streamId"], stayed["http2"]["streamId"]) == (1, 3)


def test_a_client_that_goes_away_and_comes_back_has_another_connection(proxy: Proxy, h2_origin: Http2Origin) -> None:
    h2_origin.answers["/h2-left"] = lambda peer, stream: peer.wait_for(h2.events.StreamReset, stream)
    h2_origin.answers["/h2-back"] = answering(b"again")
    with http2_client(proxy, h2_origin.port) as client:
        client.request("/h2-left")
        proxy.api.wait_for("/h2-left", lambda entry: entry["request"]["bodySize"] == 0)
        client.go_away()
        while client.receive():
            pass
    left = proxy.api.wait_for("/h2-left", lambda entry: entry["remoteAddr"])
    with http2_client(proxy, h2_origin.port) as client:
        client.body(client.request("/h2-back"))
    back = proxy.api.wait_for("/h2-back")
    assert left["response"] is None
    assert left["http2"]["connectionId"] != back["http2"]["connectionId"]
    assert left["http2"]["streamId"] == back["http2"]["streamId"] == 1


# Many streams, priorities, modes


@pytest.fixture(scope="module")
def nghttpd_port(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("htdocs")
    (folder / "index.html").write_text("hello")
    with nghttpd(authority.certificate, folder) as port:
        yield port


@pytest.fixture(scope="module")
def reverse_proxy(confdir: Path, trusting: tuple[str, ...], nghttpd_port: int) -> Iterator[Proxy]:
    with recording(confdir, *trusting, "--mode", f"reverse:https://localhost:{nghttpd_port}") as running:
        yield running


def test_thousands_of_streams_have_each_their_own_id(reverse_proxy: Proxy) -> None:
    clients, requests = 4, 2000
    said = h2load(
        "-c", str(clients), "-n", str(requests), "-m", "100", f"https://{HOST}:{reverse_proxy.port}/index.html"
    )
    assert f"{requests} succeeded" in said
    eventually(reverse_proxy.api.entry_ids, lambda ids: len(ids) == requests)
    entries = reverse_proxy.api.wait(is_whole, count=requests)
    streams = defaultdict(list)
    for entry in entries:
        streams[entry["http2"]["connectionId"]].append(entry["http2"]["streamId"])
    assert len(streams) == clients
    for ids in streams.values():
        assert sorted(ids) == list(range(1, 2 * requests // clients, 2))


def test_priorities_do_not_count_as_streams(reverse_proxy: Proxy) -> None:
    said = nghttp("-v", f"https://{HOST}:{reverse_proxy.port}/")
    assert "send PRIORITY frame <length=5, flags=0x00, stream_id=11>" in said
    entry = reverse_proxy.api.wait_for("/")
    assert entry["http2"]["streamId"] == 13
    assert [name for name, _ in entry["request"]["headers"]] == [
        *(":method", ":path", ":scheme", ":authority"),
        *("accept", "accept-encoding", "user-agent"),
    ]


def test_a_client_of_a_socks_proxy(confdir: Path, trusting: tuple[str, ...], h2_origin: Http2Origin) -> None:
    h2_origin.answers["/h2-socks"] = answering(b"hello")
    with recording(confdir, *trusting, "--mode", "socks5") as proxy:
        url = f"https://localhost:{h2_origin.port}/h2-socks"
        with httpx.Client(proxy=f"socks5://{HOST}:{proxy.port}", verify=trust(proxy), http2=True) as client:
            assert client.get(url).http_version == "HTTP/2"
        entry = proxy.api.wait_for("/h2-socks")
    assert entry["http2"]["streamId"] == 1
    assert entry["url"] == url


def test_a_proxy_behind_a_proxy(proxy: Proxy, confdir: Path, h2_origin: Http2Origin) -> None:
    h2_origin.answers["/h2-chain"] = answering(b"hello")
    trusting = ("--set", f"ssl_verify_upstream_trusted_ca={proxy.ca}")
    with recording(confdir, *trusting, "--mode", f"upstream:{proxy.http_url}") as outer:
        with http2_client(outer, h2_origin.port) as client:
            client.body(client.request("/h2-missing"))
            stream = client.request("/h2-chain", order="spam")
            assert client.body(stream) == b"hello"
        near, far = outer.api.wait_for("/h2-chain"), proxy.api.wait_for("/h2-chain")
    assert near["http2"]["streamId"] == stream
    assert [name for name, _ in near["request"]["headers"]] == [":scheme", ":path", ":authority", ":method"]
    assert near["remoteAddr"] == {"ip": HOST, "port": proxy.port}
    assert far["http2"]["streamId"] == 3
    assert far["http2"]["connectionId"] != near["http2"]["connectionId"]


def test_a_client_that_begins_in_clear_text_is_turned_away(confdir: Path, plain_origin: Origin) -> None:
    """mitmproxy reads the preface as a request, and kills that."""
    with recording(confdir, "--mode", f"reverse:http://{HOST}:{plain_origin.port}") as proxy:
        command = [program("curl"), "-sS", "--http2-prior-knowledge", f"{proxy.http_url}/h2-prior"]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
        (entry,) = proxy.api.wait(lambda entry: entry["process"])
    assert (entry["request"]["method"], entry["request"]["path"]) == ("PRI", "*")
    assert entry["response"] is None
    assert entry["http2"] is None


def test_a_proxy_that_is_reached_over_http2_itself(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/h2-to-proxy"] = answer(b"hello")
    with http2_client(proxy) as client:
        stream = client.request("/h2-to-proxy", scheme="http", authority=f"{HOST}:{plain_origin.port}")
        assert client.body(stream) == b"hello"
    entry = proxy.api.wait_for("/h2-to-proxy")
    assert entry["url"] == plain_origin.url("/h2-to-proxy")
    assert entry["http2"]["streamId"] == stream
    assert entry["tls"]["tlsVersion"]["name"] == "TLS 1.3"


FORCE_HTTP2 = """
def tls_start_server(data):
    data.conn.alpn_offers = [b"h2"]
"""


def test_an_http2_server_behind_an_http1_client(
    confdir: Path, trusting: tuple[str, ...], h2_origin: Http2Origin, tmp_path: Path
) -> None:
    """mitmproxy speaks HTTP/2 with a server only if the client offers it, unless another addon wants it."""
    (tmp_path / "force.py").write_text(FORCE_HTTP2)
    h2_origin.answers["/h2-up"] = answering(b"two", ("x-lower", "1"))
    mode = ("--mode", f"reverse:https://localhost:{h2_origin.port}", "-s", str(tmp_path / "force.py"))
    with recording(confdir, *trusting, *mode) as proxy:
        done = subprocess.run(
            [program("curl"), "-sS", "--http1.1", "-A", "me", f"{proxy.http_url}/h2-up"],
            capture_output=True,
            check=True,
        )
        assert done.stdout == b"two"
        entry = proxy.api.wait_for("/h2-up")
    assert entry["httpVersion"] == entry["request"]["httpVersion"] == "HTTP/1.1"
    assert [name for name, _ in entry["request"]["headers"]] == ["Host", "User-Agent", "Accept"]
    assert entry["response"]["httpVersion"] == "HTTP/2"
    assert entry["response"]["statusText"] is None
    assert entry["response"]["headers"] == [[":status", "200"], ["x-lower", "1"]]
    assert entry["http2"] is None
