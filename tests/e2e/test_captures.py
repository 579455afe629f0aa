"""Captures in files: those that the addon took part in, those that it did not, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.snapshot import Snapshot, settled
from tests.peers.api import eventually
from tests.peers.clients import curl, http_client
from tests.peers.listener import HOST
from tests.peers.origin import Origin, answer
from tests.peers.proxy import ENDPOINT, LISTENING, Proxy, recording, running, with_script


def replay(confdir: Path, capture: Path, count: int, *arguments: str) -> Snapshot:
    options = ("-n", "-r", str(capture), "--set", "keepserving=true")
    with recording(confdir, *options, *arguments, listens=False) as proxy:
        return settled(proxy.api, count)


def one(snapshot: Snapshot) -> dict[str, Any]:
    (entry,) = snapshot["entries"].values()
    assert isinstance(entry, dict)
    return entry


def test_a_streamed_body_is_not_in_a_capture_but_its_size_is(
    confdir: Path, trusting: tuple[str, ...], plain_origin: Origin, tmp_path: Path
) -> None:
    capture = tmp_path / "streamed.flow"
    plain_origin.answers["/large"] = answer(bytes(100_000))
    with recording(confdir, *trusting, "-w", str(capture), "--set", "stream_large_bodies=10k") as proxy:
        curl(proxy, plain_origin.url("/large"), "-d", "x" * 20_000, "-H", "Expect:")
        live = settled(proxy.api, 1)
    again = replay(confdir, capture, 1)
    assert one(live)["response"]["bodySize"] == 100_000
    assert one(live)["request"]["bodySize"] == 20_000
    assert one(again) == one(live)
    assert list(again["response_bodies"].values()) == [None]
    assert list(again["request_bodies"].values()) == [None]


@pytest.fixture(scope="module")
def foreign_capture(confdir: Path, trusting: tuple[str, ...], h2_port: int, tmp_path_factory: Any) -> Path:
    """A capture that mitmdump took without the addon."""
    capture: Path = tmp_path_factory.mktemp("foreign") / "foreign.flow"
    options = ("--listen-host", HOST, "--listen-port", "0", "--set", f"confdir={confdir}", "-w", str(capture))
    with running(*options, *trusting) as mitmdump:
        port = int(mitmdump.wait_for_line(LISTENING))
        proxy = Proxy.__new__(Proxy)
        proxy.port, proxy.ca = port, confdir / "mitmproxy-ca-cert.pem"
        with http_client(proxy) as client:
            client.post(f"https://localhost:{h2_port}/foreign", content=b"sent")
            client.get(f"https://localhost:{h2_port}/foreign-2")
    return capture


def test_a_capture_that_was_made_without_the_addon_gives_what_mitmproxy_keeps(
    confdir: Path, foreign_capture: Path, h2_port: int
) -> None:
    snapshot = replay(confdir, foreign_capture, 2)
    entry, second = snapshot["entries"].values()
    assert entry["url"] == f"https://localhost:{h2_port}/foreign"
    assert entry["remoteAddr"] == {"ip": HOST, "port": h2_port}
    assert entry["tls"]["tlsVersion"] == {"value": 772, "name": "TLS 1.3"}
    assert (entry["tls"]["ja3"], entry["tls"]["ja4"]) == (None, None)
    assert (entry["http2"], entry["process"]) == (None, None)
    assert entry["timings"]["connect"] is not None
    assert entry["timings"]["ssl"] is not None
    assert entry["timings"]["dns"] is None
    assert second["timings"]["connect"] is None
    assert list(snapshot["response_bodies"].values()) == ["c2VudA==", "aGVsbG8="]


def test_a_har_file_is_served(confdir: Path, tmp_path: Path) -> None:
    har = tmp_path / "one.har"
    exchange = {
        "startedDateTime": "2026-01-02T03:04:05.678Z",
        "time": 10,
        "request": {
            "method": "GET",
            "url": "https://har.test/path?x=1",
            "httpVersion": "HTTP/1.1",
            "headers": [{"name": "Host", "value": "har.test"}],
            "queryString": [],
            "cookies": [],
            "headersSize": -1,
            "bodySize": 0,
        },
        "serverIPAddress": "192.0.2.7",
        "response": {
            "status": 200,
            "statusText": "OK",
            "httpVersion": "HTTP/1.1",
            "headers": [{"name": "content-type", "value": "text/plain"}],
            "cookies": [],
            "content": {"size": 2, "mimeType": "text/plain", "text": "hi"},
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": 2,
        },
        "cache": {},
        "timings": {"send": 1, "wait": 2, "receive": 3},
    }
    log = {"version": "1.2", "creator": {"name": "test", "version": "1"}, "entries": [exchange]}
    har.write_text(json.dumps({"log": log}))
    snapshot = replay(confdir, har, 1)
    entry = one(snapshot)
    assert entry["url"] == "https://har.test/path?x=1"
    assert entry["clientAddr"] is None
    assert entry["remoteAddr"] == {"ip": "192.0.2.7", "port": 443}
    assert entry["timings"]["startedAt"] == "2026-01-02T03:04:05.678Z"
    assert list(snapshot["response_bodies"].values()) == ["aGk="]


def test_a_broken_capture_gives_mitmproxys_error_and_no_half_entry(
    confdir: Path, foreign_capture: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.flow"
    broken.write_bytes(foreign_capture.read_bytes()[:-100])
    store = ("--set", f"entries_store={tmp_path / 'entries.db'}")
    with running(*with_script(confdir), *store, "-n", "-r", str(broken), "--set", "keepserving=true") as mitmdump:
        assert mitmdump.wait() != 0
    eventually(lambda: mitmdump.output, lambda output: "Flow file corrupted - loaded 1 flow" in output)
    with recording(confdir, *store) as proxy:
        broken_session, _ = proxy.api.call("sessions/list")
        (entry,) = proxy.api.entries(broken_session["id"])
    assert entry["response"]["statusCode"] == 200


def test_a_capture_that_is_not_one_gives_mitmproxys_error(confdir: Path, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.flow"
    nonsense.write_bytes(b"this is no capture")
    with running(*with_script(confdir), "-n", "-r", str(nonsense), "--set", "keepserving=true") as mitmdump:
        mitmdump.wait_for_line(ENDPOINT)
        eventually(lambda: mitmdump.output, lambda output: "nonsense.flow" in output or "corrupted" in output)


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 99},
        {"id": "not a ULID"},
        {"started": "yesterday"},
        {"client": None},
        {"connecting": (1, 2)},
        {"streamed": {"response": -1}},
        None,
    ],
    ids=str,
)
def test_what_a_capture_says_of_its_recording_is_not_trusted_blindly(
    confdir: Path, trusting: tuple[str, ...], plain_origin: Origin, tmp_path: Path, damage: dict[str, Any] | None
) -> None:
    script = tmp_path / "damage.py"
    script.write_text(
        f"def response(flow):\n    damage = {damage!r}\n    kept = flow.metadata['entries']\n"
        "    flow.metadata['entries'] = None if damage is None else {**kept, **damage}\n"
    )
    capture = tmp_path / "damaged.flow"
    plain_origin.answers["/damaged"] = answer(b"intact")
    with recording(confdir, *trusting, "-w", str(capture), "-s", str(script)) as proxy:
        curl(proxy, plain_origin.url("/damaged"))
        settled(proxy.api, 1)
    snapshot = replay(confdir, capture, 1)
    assert one(snapshot)["url"] == plain_origin.url("/damaged")
    assert list(snapshot["response_bodies"].values()) == ["aW50YWN0"]
