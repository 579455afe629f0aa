"""Every entry ends, however its exchange does: nothing is kept in mind of it while its connection goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import h2.events
import pytest
from websockets.exceptions import InvalidMessage

from tests.peers.api import eventually
from tests.peers.authority import Authority
from tests.peers.clients import websocket
from tests.peers.http2 import Http2Client, Http2Origin, Http2Peer, answering, http2_client, http2_origin
from tests.peers.origin import Origin
from tests.peers.proxy import Proxy, recording
from tests.peers.websocket import accept

ADDON = """
def requestheaders(flow):
    flow.request.stream = flow.request.path.startswith("/end-upload")

def response(flow):
    if flow.request.path.endswith("-killed"):
        flow.kill()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "entries.db"


@pytest.fixture(scope="module")
def lossy(
    confdir: Path, trusting: tuple[str, ...], store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy whose other addon streams what is uploaded and kills some responses."""
    script = tmp_path_factory.mktemp("addon") / "killer.py"
    script.write_text(ADDON)
    with recording(confdir, *trusting, "-s", str(script), "--set", f"entries_store={store}") as running:
        yield running


@pytest.fixture(scope="module")
def origin(authority: Authority) -> Iterator[Http2Origin]:
    with http2_origin(authority.server_context(alpn=("h2",))) as server:
        yield server


def unfinished(store: Path, path: str) -> list[bytes]:
    """The entries of a path in a store of which more is expected."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        found = [json for (json,) in database.execute("SELECT json FROM entry WHERE state IS NOT NULL")]
    return [json for json in found if path.encode() in json]


def check_that_it_ends(proxy: Proxy, store: Path, path: str) -> None:
    proxy.api.wait_for(path, lambda _: True)
    eventually(lambda: proxy.api.entry_ids() and unfinished(store, path), lambda left: not left)


def complete(client: Http2Client, stream: int) -> None:
    client.data(stream, b"cd", end=True)


def break_off(client: Http2Client, stream: int) -> None:
    client.reset(stream)


def leave_open(_client: Http2Client, _stream: int) -> None:
    """Do nothing more."""


@pytest.mark.parametrize(
    ("path", "go_on"),
    [
        ("/end-upload-completed", complete),
        ("/end-upload-broken-off", break_off),
        ("/end-upload-killed", leave_open),
    ],
)
def test_an_upload_that_is_answered_before_it_is_complete(
    lossy: Proxy, store: Path, origin: Http2Origin, path: str, go_on: Callable[[Http2Client, int], None]
) -> None:
    origin.answers[path] = answering(b"enough")
    with http2_client(lossy, origin.port) as client:
        stream = client.request(path, end=False, method="POST")
        client.data(stream, b"ab")
        client.wait_for(h2.events.StreamReset if go_on is leave_open else h2.events.ResponseReceived, stream)
        go_on(client, stream)
        client.settle()
        check_that_it_ends(lossy, store, path)
        entry = lossy.api.wait_for(path)
        assert entry["request"]["bodySize"] == (4 if go_on is complete else None)
        assert lossy.api.body("request", entry) == ("abcd" if go_on is complete else "ab")
        assert lossy.api.body("response", entry) == "enough"


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_stream_that_is_reset(lossy: Proxy, store: Path, origin: Http2Origin, who: str) -> None:
    def reply(peer: Http2Peer, stream: int) -> None:
        peer.headers(stream, [(":status", "200")])
        peer.data(stream, b"half")
        if who == "server":
            peer.reset(stream)
        else:
            peer.wait_for(h2.events.StreamReset, stream)

    path = f"/end-reset-by-{who}"
    origin.answers[path] = reply
    with http2_client(lossy, origin.port) as client:
        stream = client.request(path)
        lossy.api.wait_for(path, lambda entry: entry["response"])
        if who == "client":
            client.reset(stream)
        check_that_it_ends(lossy, store, path)


def test_a_websocket_that_is_killed_before_it_is_open(lossy: Proxy, store: Path, plain_origin: Origin) -> None:
    plain_origin.answers["/end-socket-killed"] = accept
    url = plain_origin.url("/end-socket-killed").replace("http", "ws")
    with pytest.raises(InvalidMessage), websocket(lossy, url):
        pass
    check_that_it_ends(lossy, store, "/end-socket-killed")
