"""Server push through the proxy: it reaches clients that allow it, and each pushed exchange is an entry of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h2.events
import pytest
from h2.errors import ErrorCodes

from tests.peers.api import Entry, eventually
from tests.peers.authority import Authority
from tests.peers.clients import curl
from tests.peers.http2 import (
    ENABLE_PUSH,
    MAX_CONCURRENT_STREAMS,
    Fields,
    Http2Origin,
    Http2Peer,
    answering,
    http2_client,
    http2_origin,
    pairs,
)
from tests.peers.nghttp2 import nghttp, nghttpd
from tests.peers.node import push_client, push_origin
from tests.peers.proxy import Proxy, recording

PUSHED = 2
"""The id of the first stream that a server can promise."""


@pytest.fixture(scope="module", autouse=True)
def _nothing_crashes(proxy: Proxy) -> Iterator[None]:
    yield
    assert "crashed" not in proxy.mitmdump.output
    assert "Traceback" not in proxy.mitmdump.output


@pytest.fixture(scope="module")
def origin(authority: Authority) -> Iterator[Http2Origin]:
    with http2_origin(authority.server_context(alpn=("h2",))) as server:
        yield server


def is_push(entry: Entry) -> bool:
    return bool(entry["transactionType"] == "push_promise")


def is_over(entry: Entry) -> bool:
    """Whether a push has come to its end, a good one or a bad one."""
    return is_push(entry) and entry["remoteAddr"] is not None


# Real servers and clients


@pytest.fixture(scope="module")
def nghttpd_port(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("htdocs")
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "a.css").write_text("body {}")
    (folder / "b.bin").write_bytes(bytes(range(256)) * 4000)
    with nghttpd(authority.certificate, folder, "--push=/=/a.css,/b.bin") as port:
        yield port


@pytest.fixture(scope="module")
def reverse_proxy(confdir: Path, trusting: tuple[str, ...], nghttpd_port: int) -> Iterator[Proxy]:
    with recording(confdir, *trusting, "--mode", f"reverse:https://localhost:{nghttpd_port}") as running:
        yield running
        assert "crashed" not in running.mitmdump.output


def test_nghttp_gets_what_nghttpd_pushes(reverse_proxy: Proxy, nghttpd_port: int) -> None:
    said = nghttp("-v", f"https://localhost:{reverse_proxy.port}/")
    assert said.count("recv PUSH_PROMISE frame") == 2
    assert said.count(f"recv (stream_id=13) :authority: localhost:{reverse_proxy.port}\n") == 2
    assert "recv (stream_id=2) :status: 200" in said
    assert "body {}" in said
    (page,) = reverse_proxy.api.wait(lambda entry: entry["url"].endswith("/"))
    css, binary = reverse_proxy.api.wait(
        lambda entry: is_push(entry) and entry["timings"]["receive"] is not None, count=2
    )
    assert css["timings"].pop("startedAt") >= page["timings"]["startedAt"]
    assert {phase for phase, spent in css.pop("timings").items() if spent is not None} == {
        *("blocked", "send", "wait", "receive")
    }
    fields = dict(css["response"]["headers"])
    assert css == {
        "id": css["id"],
        "url": f"https://localhost:{nghttpd_port}/a.css",
        "clientAddr": page["clientAddr"],
        "remoteAddr": page["remoteAddr"],
        "httpVersion": "HTTP/2",
        "transactionType": "push_promise",
        "request": {
            "method": "GET",
            "path": "/a.css",
            "httpVersion": "HTTP/2",
            "headers": [
                [":method", "GET"],
                [":path", "/a.css"],
                [":scheme", "https"],
                [":authority", f"localhost:{nghttpd_port}"],
            ],
            "bodySize": 0,
        },
        "response": {
            "httpVersion": "HTTP/2",
            "statusCode": 200,
            "statusText": None,
            "headers": [
                [":status", "200"],
                ["server", fields["server"]],
                ["cache-control", "max-age=3600"],
                ["date", fields["date"]],
                ["content-length", "7"],
                ["last-modified", fields["last-modified"]],
                ["content-type", "text/css"],
            ],
            "bodySize": 7,
        },
        "isWebSocket": False,
        "tls": page["tls"],
        "http2": {"connectionId": page["http2"]["connectionId"], "streamId": 2},
        "process": page["process"],
    }
    assert reverse_proxy.api.body("request", css) == ""
    assert reverse_proxy.api.body("response", css) == "body {}"
    assert page["transactionType"] == "request"
    assert page["http2"]["streamId"] == 13
    assert binary["http2"]["streamId"] == 4
    assert binary["response"]["bodySize"] == 256 * 4000


def test_a_client_that_forbids_push_gets_none(reverse_proxy: Proxy) -> None:
    before = set(reverse_proxy.api.entry_ids())
    said = nghttp("-v", "--no-push", f"https://localhost:{reverse_proxy.port}/")
    assert "PUSH_PROMISE" not in said
    (entry,) = reverse_proxy.api.wait(lambda entry: entry["id"] not in before and entry["response"])
    assert entry["transactionType"] == "request"


def test_node_gets_what_node_pushes(proxy: Proxy, authority: Authority) -> None:
    with push_origin(authority.certificate) as port:
        got = push_client(proxy, port, allows_push=True)
        css = {"id": 2, "path": "/pushed.css", "accept": "text/css", "status": 200, "body": "body {}"}
        assert got == {"allowed": "true", "body": "<!doctype html>", "pushes": [css | {"trailers": {"x-sum": "1"}}]}
        (entry,) = proxy.api.wait(
            lambda entry: is_push(entry) and entry["url"] == f"https://localhost:{port}/pushed.css"
        )
        assert entry["request"]["headers"] == [
            [":path", "/pushed.css"],
            [":method", "GET"],
            [":authority", f"localhost:{port}"],
            [":scheme", "https"],
            ["accept", "text/css"],
        ]
        assert entry["response"]["headers"][-1] == ["x-sum", "1"]
        assert proxy.api.body("response", entry) == "body {}"
        assert push_client(proxy, port, allows_push=False) == {
            "allowed": "false",
            "body": "<!doctype html>",
            "pushes": [],
        }


def test_curl_gets_no_push(proxy: Proxy, nghttpd_port: int) -> None:
    curl(proxy, "--http2", f"https://localhost:{nghttpd_port}/")
    proxy.api.wait_for(f":{nghttpd_port}/")
    assert not [entry for entry in proxy.api.entries() if is_push(entry) and f":{nghttpd_port}/" in entry["url"]]


# Frames of a server that a test decides about


def promise(peer: Http2Peer, parent: int, path: str, *, method: str = "GET", authority: str = "") -> int:
    """Promise a push and return its stream."""
    stream: int = peer.h2.get_next_available_stream_id()
    authority = authority or f"localhost:{peer.socket.getsockname()[1]}"
    fields: Fields = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
    peer.h2.push_stream(parent, stream, [*fields, ("x-promised", "1")])
    peer.flush()
    return stream


def answer(peer: Http2Peer, stream: int, body: bytes = b"page", *fields: tuple[str, str]) -> None:
    peer.headers(stream, [(":status", "200"), *fields])
    peer.data(stream, body, end=True)


def test_a_promise_is_told_before_its_response_and_the_page_goes_on(proxy: Proxy, origin: Http2Origin) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-told.css")
        answer(peer, stream)
        peer.settle()
        entry = proxy.api.wait_for("/push-told.css", lambda entry: entry["request"]["bodySize"] == 0)
        assert entry["response"] is None
        answer(peer, pushed, b"css")

    origin.answers["/push-told"] = reply
    with http2_client(proxy, origin.port) as client:
        stream = client.request("/push-told")
        promised = client.wait_for(h2.events.PushedStreamReceived)
        assert (promised.parent_stream_id, promised.pushed_stream_id) == (stream, PUSHED)
        assert pairs(promised.headers) == [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", f"localhost:{origin.port}"),
            (":path", "/push-told.css"),
            ("x-promised", "1"),
        ]
        assert client.body(stream) == b"page"
        assert client.body(PUSHED) == b"css"
    assert proxy.api.wait_for("/push-told.css")["http2"]["streamId"] == PUSHED


@pytest.mark.parametrize(
    ("path", "promised"), [("/push-for-another", {"authority": "other.test"}), ("/push-for-a-post", {"method": "POST"})]
)
def test_a_promise_that_no_server_may_make_is_refused(
    proxy: Proxy, origin: Http2Origin, path: str, promised: dict[str, str]
) -> None:
    refusals = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-refused.css", **promised)
        refusals.append(peer.wait_for(h2.events.StreamReset, pushed).error_code)
        answer(peer, stream)

    origin.answers[path] = reply
    with http2_client(proxy, origin.port) as client:
        assert client.body(client.request(path)) == b"page"
        assert not [event for event in client.events if isinstance(event, h2.events.PushedStreamReceived)]
    assert refusals == [ErrorCodes.PROTOCOL_ERROR]
    proxy.api.wait_for(path)
    assert not [entry for entry in proxy.api.entries() if entry["url"].endswith("/push-refused.css")]


@pytest.mark.parametrize("settings", [{ENABLE_PUSH: 0}, {ENABLE_PUSH: 1, MAX_CONCURRENT_STREAMS: 0}])
def test_what_the_client_does_not_allow_the_server_is_forbidden(
    proxy: Proxy, origin: Http2Origin, settings: dict[int, int]
) -> None:
    allowed = []

    def reply(peer: Http2Peer, stream: int) -> None:
        peer.settle()
        allowed.append(peer.h2.remote_settings.enable_push)
        answer(peer, stream)

    origin.answers["/push-forbidden"] = reply
    with http2_client(proxy, origin.port, settings=settings) as client:
        client.body(client.request("/push-forbidden"))
    assert allowed == [0]


def test_a_client_that_changes_its_mind_gets_no_push(proxy: Proxy, origin: Http2Origin) -> None:
    refusals = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-unwanted.css")
        refusals.append(peer.wait_for(h2.events.StreamReset, pushed).error_code)
        answer(peer, stream)

    origin.answers["/push-before"] = answer
    origin.answers["/push-mind"] = reply
    with http2_client(proxy, origin.port) as client:
        client.body(client.request("/push-before"))
        client.h2.update_settings({ENABLE_PUSH: 0})
        client.flush()
        assert client.body(client.request("/push-mind")) == b"page"
    assert refusals == [ErrorCodes.REFUSED_STREAM]


def test_too_many_promises_are_refused(proxy: Proxy, origin: Http2Origin) -> None:
    count, limit = 300, 256
    refusals: list[int | None] = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = [promise(peer, stream, f"/push-many-{number}") for number in range(count)]
        refusals.extend(peer.wait_for(h2.events.StreamReset).stream_id for _ in range(count - limit))
        answer(peer, stream)
        for number, promised in enumerate(pushed):
            if promised not in refusals:
                answer(peer, promised, str(number).encode())

    origin.answers["/push-many"] = reply
    with http2_client(proxy, origin.port) as client:
        client.body(client.request("/push-many"))
        bodies = [client.body(PUSHED + 2 * number) for number in range(limit)]
    assert bodies == [str(number).encode() for number in range(limit)]
    entries = proxy.api.wait(lambda entry: "/push-many-" in entry["url"] and is_over(entry), count=limit)
    assert {entry["http2"]["streamId"]: entry["request"]["path"] for entry in entries} == {
        PUSHED + 2 * number: f"/push-many-{number}" for number in range(limit)
    }


def test_a_client_resets_a_pushed_stream(proxy: Proxy, origin: Http2Origin) -> None:
    resets = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-cancelled.css")
        answer(peer, stream)
        peer.headers(pushed, [(":status", "200")])
        peer.data(pushed, b"half")
        resets.append(peer.wait_for(h2.events.StreamReset, pushed).error_code)

    origin.answers["/push-cancelled"] = reply
    with http2_client(proxy, origin.port) as client:
        client.body(client.request("/push-cancelled"))
        entry = proxy.api.wait_for("/push-cancelled.css", lambda entry: entry["response"])
        eventually(lambda: proxy.api.body("response", entry), lambda body: body == "half")
        client.reset(PUSHED)
        eventually(lambda: resets, bool)
        client.body(client.request("/push-again"))
    assert resets == [ErrorCodes.CANCEL]
    entry = proxy.api.wait_for("/push-cancelled.css", lambda entry: entry["response"])
    assert entry["response"]["bodySize"] is None
    assert proxy.api.body("response", entry) == "half"


@pytest.mark.parametrize("what", ["nothing", "half"])
def test_a_server_resets_what_it_pushes(proxy: Proxy, origin: Http2Origin, what: str) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, f"/push-{what}.css")
        if what == "half":
            peer.headers(pushed, [(":status", "200")])
            peer.data(pushed, b"half")
        peer.reset(pushed, ErrorCodes.INTERNAL_ERROR)
        answer(peer, stream)

    origin.answers[f"/push-reset/{what}"] = reply
    with http2_client(proxy, origin.port) as client:
        assert client.body(client.request(f"/push-reset/{what}")) == b"page"
        assert client.wait_for(h2.events.StreamReset).stream_id == PUSHED
        assert not [event for event in client.events if getattr(event, "stream_id", 0) == PUSHED]
    entry = proxy.api.wait_for(f"/push-{what}.css", is_over)
    if what == "nothing":
        assert entry["response"] is None
    else:
        assert entry["response"]["headers"] == [[":status", "200"]]
        eventually(lambda: proxy.api.body("response", entry), lambda body: body == "half")


def test_no_more_pushed_streams_are_open_than_the_client_allows(proxy: Proxy, origin: Http2Origin) -> None:
    """Event streams pass as they come, so that both would be open at the same time."""

    def reply(peer: Http2Peer, stream: int) -> None:
        first, second = promise(peer, stream, "/push-first"), promise(peer, stream, "/push-second")
        answer(peer, stream)
        peer.headers(first, [(":status", "200"), ("content-type", "text/event-stream")])
        proxy.api.wait_for("/push-first", lambda entry: entry["response"])
        answer(peer, second, b"data: 2\n\n", ("content-type", "text/event-stream"))
        proxy.api.wait_for("/push-second")
        peer.data(first, b"data: 1\n\n", end=True)

    origin.answers["/push-both"] = reply
    with http2_client(proxy, origin.port, settings={MAX_CONCURRENT_STREAMS: 1}) as client:
        client.request("/push-both")
        kinds = (h2.events.ResponseReceived, h2.events.StreamEnded)
        client.wait_for(h2.events.StreamEnded, 1)
        client.wait_for(h2.events.ResponseReceived, 1)
        while len(seen := [event for event in client.events if isinstance(event, kinds)]) < 4:
            assert client.receive()
    assert [(type(event), event.stream_id) for event in seen] == [
        (kind, stream) for stream in (PUSHED, PUSHED + 2) for kind in kinds
    ]


def test_a_client_goes_away_in_the_middle_of_a_push(proxy: Proxy, origin: Http2Origin) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-gone.css")
        answer(peer, stream)
        peer.headers(pushed, [(":status", "200")])
        peer.data(pushed, b"half")
        while peer.receive():
            pass

    origin.answers["/push-gone"] = reply
    with http2_client(proxy, origin.port) as client:
        client.body(client.request("/push-gone"))
        entry = proxy.api.wait_for("/push-gone.css", lambda entry: entry["response"])
        eventually(lambda: proxy.api.body("response", entry), lambda body: body == "half")
    entry = proxy.api.wait_for("/push-gone.css", is_over)
    assert entry["response"]["bodySize"] is None


# With other addons


ADDON = """
import asyncio
import pathlib
from mitmproxy import http

HERE = pathlib.Path(__file__).parent

async def request(flow):
    flow.request.headers["x-added"] = "1"
    if flow.request.path == "/push-answered.css":
        flow.response = http.Response.make(203, b"mine", {"x-mine": "1"})
    elif flow.request.path.startswith("/push-moved-to-"):
        flow.request.port = int(flow.request.path.rpartition("-")[2])
    elif flow.request.path == "/push-killed.css":
        flow.kill()
    elif flow.request.path.startswith("/push-held"):
        while not (HERE / flow.request.path[1:]).exists():
            await asyncio.sleep(0.02)

def response(flow):
    flow.response.headers["x-added"] = "2"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the addon is; it lets a request go on that it holds when there is a file of its name."""
    folder = tmp_path_factory.mktemp("addon")
    (folder / "meddle.py").write_text(ADDON)
    return folder


@pytest.fixture(scope="module")
def meddling(confdir: Path, trusting: tuple[str, ...], folder: Path) -> Iterator[Proxy]:
    with recording(confdir, *trusting, "-s", str(folder / "meddle.py")) as running:
        yield running
        assert "crashed" not in running.mitmdump.output
        assert "Traceback" not in running.mitmdump.output


def test_an_addon_changes_a_pushed_response_but_not_the_promise(meddling: Proxy, origin: Http2Origin) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-changed.css")
        answer(peer, stream)
        answer(peer, pushed, b"css")

    origin.answers["/push-changed"] = reply
    with http2_client(meddling, origin.port) as client:
        client.request("/push-changed")
        fields = client.wait_for(h2.events.ResponseReceived, PUSHED).headers
        assert pairs(fields) == [(":status", "200"), ("x-added", "2")]
    entry = meddling.api.wait_for("/push-changed.css")
    assert entry["request"]["headers"][4:] == [["x-promised", "1"]]
    assert entry["response"]["headers"] == [[":status", "200"], ["x-added", "2"]]


def test_an_addon_answers_what_is_promised(meddling: Proxy, origin: Http2Origin) -> None:
    resets = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-answered.css")
        answer(peer, stream)
        resets.append(peer.wait_for(h2.events.StreamReset, pushed).error_code)

    origin.answers["/push-answered"] = reply
    with http2_client(meddling, origin.port) as client:
        client.body(client.request("/push-answered"))
        assert client.body(PUSHED) == b"mine"
        eventually(lambda: resets, bool)
    assert resets == [ErrorCodes.CANCEL]
    entry = meddling.api.wait_for("/push-answered.css")
    assert entry["transactionType"] == "push_promise"
    assert entry["response"]["statusCode"] == 203
    assert entry["http2"]["streamId"] == PUSHED


def test_an_addon_has_what_is_promised_fetched_elsewhere(
    meddling: Proxy, origin: Http2Origin, authority: Authority
) -> None:
    with http2_origin(authority.server_context(alpn=("h2",))) as other:
        path = f"/push-moved-to-{other.port}"

        def reply(peer: Http2Peer, stream: int) -> None:
            pushed = promise(peer, stream, path)
            answer(peer, stream)
            answer(peer, pushed, b"not wanted")

        origin.answers["/push-moving"] = reply
        other.answers[path] = answering(b"elsewhere")
        with http2_client(meddling, origin.port) as client:
            client.body(client.request("/push-moving"))
            assert client.body(PUSHED) == b"elsewhere"
        entry = meddling.api.wait_for(path)
        assert entry["remoteAddr"]["port"] == other.port
        assert meddling.api.body("response", entry) == "elsewhere"


def test_an_addon_kills_a_push(meddling: Proxy, origin: Http2Origin) -> None:
    resets = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-killed.css")
        answer(peer, stream)
        resets.append(peer.wait_for(h2.events.StreamReset, pushed).error_code)

    origin.answers["/push-killed"] = reply
    with http2_client(meddling, origin.port) as client:
        client.body(client.request("/push-killed"))
        assert client.wait_for(h2.events.StreamReset).stream_id == PUSHED
        eventually(lambda: resets, bool)
    assert resets == [ErrorCodes.CANCEL]
    entry = meddling.api.wait_for("/push-killed.css", is_push)
    assert entry["response"] is None


def test_a_server_does_not_push_much_of_what_is_held(meddling: Proxy, origin: Http2Origin, folder: Path) -> None:
    body = bytes(range(256)) * 4000
    windows = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-held-body")
        answer(peer, stream)
        peer.settle()
        peer.headers(pushed, [(":status", "200")])
        windows.append(peer.h2.local_flow_control_window(pushed))
        peer.data(pushed, body[: windows[0]])
        peer.settle()
        windows.append(peer.h2.local_flow_control_window(pushed))
        (folder / "push-held-body").touch()
        peer.data(pushed, body[windows[0] :], end=True)

    origin.answers["/push-holding"] = reply
    with http2_client(meddling, origin.port) as client:
        client.body(client.request("/push-holding"))
        assert client.body(PUSHED) == body
    assert windows == [65535, 0]
    entry = meddling.api.wait_for("/push-held-body")
    assert entry["response"]["bodySize"] == len(body)


def test_a_push_that_is_complete_outlives_its_connection(meddling: Proxy, origin: Http2Origin, folder: Path) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-held-longer")
        answer(peer, stream)
        answer(peer, pushed, b"css")
        peer.settle()
        peer.socket.close()

    origin.answers["/push-closing"] = reply
    with http2_client(meddling, origin.port) as client:
        client.body(client.request("/push-closing"))
        (folder / "push-held-longer").touch()
        assert client.body(PUSHED) == b"css"
        origin.answers["/push-after"] = answer
        assert client.body(client.request("/push-after")) == b"page"
    assert meddling.api.wait_for("/push-held-longer")["response"]["bodySize"] == 3


def test_a_push_whose_connection_breaks_while_it_is_held(meddling: Proxy, origin: Http2Origin, folder: Path) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-held-broken")
        answer(peer, stream)
        peer.headers(pushed, [(":status", "200")])
        peer.data(pushed, b"half")
        peer.settle()
        peer.socket.close()

    origin.answers["/push-breaking"] = reply
    with http2_client(meddling, origin.port) as client:
        client.body(client.request("/push-breaking"))
        (folder / "push-held-broken").touch()
        assert client.wait_for(h2.events.StreamReset).stream_id == PUSHED
    entry = meddling.api.wait_for("/push-held-broken", lambda entry: entry["response"])
    eventually(lambda: meddling.api.body("response", entry), lambda body: body == "half")
    assert entry["response"]["bodySize"] is None


def test_a_client_resets_a_push_that_is_held(meddling: Proxy, origin: Http2Origin, folder: Path) -> None:
    resets = []

    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-held-reset")
        answer(peer, stream)
        resets.append(peer.wait_for(h2.events.StreamReset, pushed).error_code)

    origin.answers["/push-resetting"] = reply
    with http2_client(meddling, origin.port) as client:
        client.body(client.request("/push-resetting"))
        client.reset(PUSHED)
        eventually(lambda: resets, bool)
        (folder / "push-held-reset").touch()
        entry = meddling.api.wait_for("/push-held-reset", lambda entry: entry["timings"]["blocked"] is not None)
    assert resets == [ErrorCodes.CANCEL]
    assert entry["response"] is None
    assert entry["transactionType"] == "push_promise"


def test_a_saved_capture_has_the_pushes_again(
    confdir: Path, trusting: tuple[str, ...], origin: Http2Origin, tmp_path: Path
) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        pushed = promise(peer, stream, "/push-saved.css")
        answer(peer, stream)
        answer(peer, pushed, b"css")

    origin.answers["/push-saving"] = reply
    capture = str(tmp_path / "pushed.flow")
    with recording(confdir, *trusting, "-w", capture) as running:
        with http2_client(running, origin.port) as client:
            client.body(client.request("/push-saving"))
            client.body(PUSHED)
        running.api.wait(lambda entry: entry["response"] and entry["process"], count=2)
        live = running.api.entries()
    with recording(confdir, "-n", "-r", capture, "--set", "keepserving=true", listens=False) as running:
        replayed = running.api.wait(lambda entry: entry["response"], count=2)
    assert sorted(replayed, key=lambda entry: entry["id"]) == live
    assert [entry["transactionType"] for entry in live] == ["request", "push_promise"]
