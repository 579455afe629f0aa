"""HTTP/1 through the proxy, as literal bytes: each entry says what crossed the wire."""

from __future__ import annotations

import base64
import gzip
import socket
import struct
import zlib
from pathlib import Path

import brotli
import pytest
import zstandard

from tests.peers.api import eventually
from tests.peers.clients import curl
from tests.peers.listener import HOST
from tests.peers.origin import Origin, Request, answer, origin
from tests.peers.proxy import Proxy, recording

NO_TLS = {"connectionId": None, "tlsVersion": None, "cipherSuite": None, "ja3": None, "ja4": None}


def test_a_get_is_recorded_whole(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/whole"] = answer(b"hello", "X-Twice: 1", "x-twice: 2", "Content-Type: text/plain")
    done = curl(
        proxy,
        plain_origin.url("/whole?a=1&b=%20"),
        "-H",
        "X-One: a",
        "-H",
        "x-one: b",
        "-A",
        "me",
        "-w",
        "%{local_port}",
    )
    assert done.stdout.startswith(b"hello")
    entry = proxy.api.wait_for(
        "/whole?a=1&b=%20", lambda entry: entry["process"] and entry["timings"]["receive"] is not None
    )
    assert isinstance(entry["timings"].pop("startedAt"), str)
    assert {phase for phase, spent in entry.pop("timings").items() if spent is None} == {"dns", "ssl"}
    assert entry.pop("process")["name"] == "curl"
    assert entry == {
        "id": entry["id"],
        "url": f"http://{HOST}:{plain_origin.port}/whole?a=1&b=%20",
        "clientAddr": {"ip": HOST, "port": int(done.stdout[5:])},
        "remoteAddr": {"ip": HOST, "port": plain_origin.port},
        "httpVersion": "HTTP/1.1",
        "transactionType": "request",
        "request": {
            "method": "GET",
            "path": "/whole?a=1&b=%20",
            "httpVersion": "HTTP/1.1",
            "headers": [
                ["Host", f"{HOST}:{plain_origin.port}"],
                ["User-Agent", "me"],
                ["Accept", "*/*"],
                ["Proxy-Connection", "Keep-Alive"],
                ["X-One", "a"],
                ["x-one", "b"],
            ],
            "bodySize": 0,
        },
        "response": {
            "httpVersion": "HTTP/1.1",
            "statusCode": 200,
            "statusText": "OK",
            "headers": [["Content-Length", "5"], ["X-Twice", "1"], ["x-twice", "2"], ["Content-Type", "text/plain"]],
            "bodySize": 5,
        },
        "isWebSocket": False,
        "tls": NO_TLS,
        "http2": None,
    }
    assert proxy.api.body("request", entry) == ""
    assert proxy.api.body("response", entry) == "hello"
    assert proxy.api.body("response", entry, "base64") == "aGVsbG8="
    assert proxy.api.messages(entry) is None


def test_a_post_has_its_body(proxy: Proxy, plain_origin: Origin, tmp_path: Path) -> None:
    plain_origin.answers["/post"] = answer(b"")
    sent = tmp_path / "sent"
    sent.write_bytes(bytes(range(256)))
    curl(
        proxy, plain_origin.url("/post"), "--data-binary", f"@{sent}", "-H", "Content-Type: text/plain; charset=latin-1"
    )
    entry = proxy.api.wait_for("/post")
    assert entry["request"]["method"] == "POST"
    assert entry["request"]["bodySize"] == 256
    assert proxy.api.body("request", entry, "base64") == base64.b64encode(sent.read_bytes()).decode()
    assert proxy.api.body("request", entry) == sent.read_bytes().decode("latin-1")
    assert proxy.api.body("response", entry) == ""
    assert entry["response"]["bodySize"] == 0


TEXT = "Grüße, 世界! " * 100
CODINGS = {
    "gzip": gzip.compress(TEXT.encode()),
    "br": brotli.compress(TEXT.encode()),
    "zstd": zstandard.compress(TEXT.encode()),
    "deflate": zlib.compress(TEXT.encode()),
    "gzip, br": brotli.compress(gzip.compress(TEXT.encode())),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_content_encoding_is_undone(proxy: Proxy, plain_origin: Origin, coding: str) -> None:
    path = "/coded-" + coding.replace(", ", "-")
    plain_origin.answers[path] = answer(CODINGS[coding], f"Content-Encoding: {coding}")
    curl(proxy, plain_origin.url(path))
    entry = proxy.api.wait_for(path)
    assert entry["response"]["bodySize"] == len(CODINGS[coding])
    assert proxy.api.body("response", entry) == TEXT
    assert proxy.api.body("response", entry, "base64") == base64.b64encode(TEXT.encode()).decode()


def test_a_broken_content_encoding_gives_the_bytes_as_transferred(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/broken"] = answer(b"no gzip \xff", "Content-Encoding: gzip")
    curl(proxy, plain_origin.url("/broken"))
    entry = proxy.api.wait_for("/broken")
    assert proxy.api.body("response", entry) == "no gzip \ufffd"
    assert proxy.api.body("response", entry, "base64") == base64.b64encode(b"no gzip \xff").decode()


def test_a_body_of_50_mb_comes_out_as_it_went_in(proxy: Proxy, plain_origin: Origin) -> None:
    body = bytes(range(256)) * (50_000_000 // 256)
    plain_origin.answers["/large"] = answer(body)
    curl(proxy, plain_origin.url("/large"), "-o", "/dev/null")
    entry = proxy.api.wait_for("/large")
    assert entry["response"]["bodySize"] == len(body)
    out = proxy.api.body("response", entry, "base64")
    assert out is not None
    assert base64.b64decode(out) == body


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_that_can_have_no_body_has_an_empty_one(proxy: Proxy, plain_origin: Origin, status: str) -> None:
    path = f"/{status[:3]}"
    plain_origin.answers[path] = f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode()
    curl(proxy, plain_origin.url(path))
    entry = proxy.api.wait_for(path)
    assert (entry["response"]["statusCode"], entry["response"]["statusText"]) == (int(status[:3]), status[4:])
    assert entry["response"]["bodySize"] == 0
    assert proxy.api.body("response", entry) == ""


def test_the_answer_to_a_head_request_has_an_empty_body_and_the_fields_as_sent(
    proxy: Proxy, plain_origin: Origin
) -> None:
    plain_origin.answers["/head"] = b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
    curl(proxy, "-I", plain_origin.url("/head"))
    entry = proxy.api.wait_for("/head")
    assert entry["request"]["method"] == "HEAD"
    assert entry["response"]["headers"] == [["Content-Length", "12345"]]
    assert entry["response"]["bodySize"] == 0


def test_trailers_follow_the_headers(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/trailers"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nX-Sum: 6\r\n\r\n"
    )
    done = curl(proxy, "--raw", plain_origin.url("/trailers"))
    assert done.stdout.endswith(b"0\r\nX-Sum: 5\r\nX-Sum: 6\r\n\r\n")
    entry = proxy.api.wait_for("/trailers")
    assert entry["response"]["headers"] == [["Transfer-Encoding", "chunked"], ["X-Sum", "5"], ["X-Sum", "6"]]
    assert entry["response"]["bodySize"] == 5
    assert proxy.api.body("response", entry) == "abcde"


def test_bytes_that_are_not_utf_8_are_read_as_latin_1(proxy: Proxy, plain_origin: Origin) -> None:
    head = b"HTTP/1.1 200 Gef\xe4llt\r\nX-A: \xe9\xff\r\nX-B: \xc3\xa9\r\nContent-Length: 1\r\n\r\n"
    plain_origin.answers["/latin"] = head + b"\x80"
    with socket.create_connection((HOST, proxy.port)) as client:
        target = plain_origin.url("/latin").encode()
        client.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nX-C: \xe4\r\nConnection: close\r\n\r\n")
        assert read_all(client).endswith(b"\x80")
    entry = proxy.api.wait_for("/latin")
    assert ["X-C", "ä"] in entry["request"]["headers"]
    assert entry["response"]["statusText"] == "Gefällt"
    assert entry["response"]["headers"][:2] == [["X-A", "éÿ"], ["X-B", "é"]]
    assert proxy.api.body("response", entry) == "\ufffd"


def test_http_1_0_is_named_so(proxy: Proxy, plain_origin: Origin) -> None:
    def reply(connection: socket.socket, _: Request) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nold")
        connection.close()

    plain_origin.answers["/old"] = reply
    curl(proxy, "-0", plain_origin.url("/old"))
    entry = proxy.api.wait_for("/old")
    assert (entry["httpVersion"], entry["request"]["httpVersion"]) == ("HTTP/1.0", "HTTP/1.0")
    assert entry["response"]["httpVersion"] == "HTTP/1.0"
    assert proxy.api.body("response", entry) == "old"


def test_requests_on_one_connection_are_entries_of_their_own_in_order(proxy: Proxy, plain_origin: Origin) -> None:
    for name in "abc":
        plain_origin.answers[f"/kept-{name}"] = answer(name.encode())
    curl(proxy, *(plain_origin.url(f"/kept-{name}") for name in "abc"))
    entries = proxy.api.wait(
        lambda entry: "/kept-" in entry["url"] and entry["timings"]["receive"] is not None, count=3
    )
    assert [entry["url"][-1] for entry in entries] == ["a", "b", "c"]
    assert len({entry["clientAddr"]["port"] for entry in entries}) == 1
    assert [entry["timings"]["connect"] is None for entry in entries] == [False, True, True]
    assert sorted(entry["id"] for entry in entries) == [entry["id"] for entry in entries]


def test_an_ipv6_server_has_its_address(proxy: Proxy) -> None:
    with origin(host="::1") as server:
        server.answers["/six"] = answer(b"6")
        curl(proxy, "-g", server.url("/six"))
        entry = proxy.api.wait_for("/six")
    assert entry["url"] == f"http://[::1]:{server.port}/six"
    assert entry["remoteAddr"] == {"ip": "::1", "port": server.port}


def test_the_url_has_the_name_that_was_asked_for(proxy: Proxy, plain_origin: Origin) -> None:
    plain_origin.answers["/named"] = answer(b"")
    curl(proxy, plain_origin.url("/named", "localhost"))
    entry = proxy.api.wait_for("/named")
    assert entry["url"] == f"http://localhost:{plain_origin.port}/named"
    assert entry["remoteAddr"]["ip"] in {"127.0.0.1", "::1"}
    assert entry["timings"]["dns"] is not None


# While it grows


def test_an_entry_can_be_read_from_its_request_headers_on(proxy: Proxy, plain_origin: Origin) -> None:
    with socket.create_connection((HOST, proxy.port)) as client:
        url = plain_origin.url("/growing").encode()
        plain_origin.answers["/growing"] = answer(b"done")
        client.sendall(b"POST " + url + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        entry = proxy.api.wait_for("/growing", lambda _: True)
        assert entry["response"] is None
        assert entry["request"]["bodySize"] is None
        assert entry["timings"]["send"] is None
        assert proxy.api.body("response", entry) is None
        client.sendall(b"cd")
        client.recv(4096)
    finished = proxy.api.wait_for("/growing")
    assert finished["id"] == entry["id"]
    assert finished["request"]["bodySize"] == 4
    assert proxy.api.body("request", finished) == "abcd"


# Failures


def test_a_refused_connection_is_an_entry_without_a_response(proxy: Proxy) -> None:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        port = reserved.getsockname()[1]
        curl(proxy, f"http://{HOST}:{port}/refused")
        entry = proxy.api.wait_for("/refused", lambda entry: entry["timings"]["blocked"] is not None)
    assert entry["response"] is None
    assert entry["remoteAddr"] is None
    assert proxy.api.body("request", entry) == ""
    assert proxy.api.body("response", entry) is None


def test_a_server_that_resets_before_it_answers_leaves_an_entry_without_a_response(
    proxy: Proxy, plain_origin: Origin
) -> None:
    plain_origin.answers["/reset"] = lambda connection, _: reset(connection)
    curl(proxy, plain_origin.url("/reset"), check=False)
    entry = proxy.api.wait_for("/reset", lambda entry: entry["remoteAddr"])
    assert entry["response"] is None
    assert entry["remoteAddr"] == {"ip": HOST, "port": plain_origin.port}
    assert entry["timings"]["connect"] is not None


def test_a_response_that_is_cut_off_keeps_what_had_arrived(proxy: Proxy, plain_origin: Origin) -> None:
    def reply(connection: socket.socket, _: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all")
        connection.close()

    plain_origin.answers["/cut"] = reply
    curl(proxy, plain_origin.url("/cut"), check=False)
    entry = proxy.api.wait_for("/cut", lambda entry: entry["response"])
    assert entry["response"]["statusCode"] == 200
    assert entry["response"]["bodySize"] is None
    eventually(lambda: proxy.api.body("response", entry), lambda body: body == "not all")


def test_a_client_that_goes_away_in_the_middle_leaves_what_it_has_sent(proxy: Proxy, plain_origin: Origin) -> None:
    with socket.create_connection((HOST, proxy.port)) as client:
        url = plain_origin.url("/gone").encode()
        client.sendall(b"POST " + url + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab")
        proxy.api.wait_for("/gone", lambda _: True)
        reset(client)
    entry = proxy.api.wait_for("/gone", lambda _: True)
    eventually(lambda: proxy.api.body("request", entry), lambda body: body == "ab")
    assert entry["response"] is None


def test_a_connect_that_fails_is_an_entry(proxy: Proxy) -> None:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        port = reserved.getsockname()[1]
        done = curl(proxy, f"https://{HOST}:{port}/", check=False)
        assert done.returncode != 0
        entry = proxy.api.wait_for(f":{port}/", lambda entry: entry["response"])
    assert entry["request"]["method"] == "CONNECT"
    assert entry["request"]["path"] is None
    assert entry["response"]["statusCode"] == 502
    assert entry["remoteAddr"] is None


def test_what_another_addon_kills_is_an_entry(confdir: Path, plain_origin: Origin, tmp_path: Path) -> None:
    script = tmp_path / "kill.py"
    script.write_text("def http_connect(flow):\n    flow.kill()\n\ndef request(flow):\n    flow.kill()\n")
    with recording(confdir, "-s", str(script)) as proxy:
        curl(proxy, "https://killed.test/", check=False)
        curl(proxy, plain_origin.url("/killed"), "-d", "sent", check=False)
        connect, request = proxy.api.wait(lambda _: True, count=2)
        assert (connect["request"]["method"], connect["url"]) == ("CONNECT", "https://killed.test/")
        assert request["url"] == plain_origin.url("/killed")
        for entry in (connect, request):
            assert (entry["response"], entry["remoteAddr"]) == (None, None)
        assert proxy.api.body("request", request) == "sent"


def test_a_connect_that_succeeds_is_no_entry(proxy: Proxy, tls_origin: Origin) -> None:
    tls_origin.answers["/tunnelled"] = answer(b"in")
    curl(proxy, tls_origin.url("/tunnelled"))
    proxy.api.wait_for("/tunnelled")
    at_origin = [entry for entry in proxy.api.entries() if f":{tls_origin.port}" in entry["url"]]
    assert "CONNECT" not in {entry["request"]["method"] for entry in at_origin}


def read_all(connection: socket.socket) -> bytes:
    """Read until the other end closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def reset(connection: socket.socket) -> None:
    """Close a connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
