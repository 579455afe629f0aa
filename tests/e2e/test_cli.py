"""The command line: what is saved is listed, shown, exported and served, as it is by a running proxy."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.io import FlowReader
from websockets.exceptions import InvalidStatus

from flows.snapshot import Snapshot, settled, take
from tests import har_model
from tests.peers.api import Api
from tests.peers.clients import curl
from tests.peers.commands import COMMAND, run, serving
from tests.peers.devtools import opened_har
from tests.peers.listener import HOST
from tests.peers.origin import Origin, answer
from tests.peers.proxy import ROOT, Proxy, recording

FLOWS = ROOT / "flows"


def captured(*subjects: str) -> tuple[bytes, Snapshot]:
    """Return captures as one, and what is in it."""
    snapshots = [json.loads((FLOWS / f"{subject}.json").read_text()) for subject in subjects]
    joined = {key: {k: v for snapshot in snapshots for k, v in snapshot[key].items()} for key in snapshots[0]}
    return b"".join((FLOWS / f"{subject}.flow").read_bytes() for subject in subjects), joined


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All captures as one."""
    path = tmp_path_factory.mktemp("captures") / "all.flow"
    path.write_bytes(b"".join(flow.read_bytes() for flow in sorted(FLOWS.glob("*.flow"))))
    return path


@pytest.fixture(scope="module")
def exported(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HAR file of all captures."""
    path = tmp_path_factory.mktemp("exported") / "all.har"
    ended = run("export", "har", "last", capture, "-o", path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    return path


@pytest.fixture
def stored(confdir: Path, plain_origin: Origin, tmp_path: Path) -> Iterator[tuple[Path, Proxy, Origin]]:
    """A store that a proxy is writing."""
    path = tmp_path / "file.db"
    with recording(confdir, "--set", f"entries_store={path}", "--set", "entries_session_name=now") as proxy:
        yield path, proxy, plain_origin


# serve


def test_a_capture_is_served_with_the_entries_ids_bodies_and_messages_that_were_recorded(capture: Path) -> None:
    _, recorded = captured(*(path.stem for path in sorted(FLOWS.glob("*.flow"))))
    with serving(capture) as server, Api(server.url) as api:
        assert take(api) == recorded
        assert [session["name"] for session in api.call("sessions/list")] == ["all.flow"]
        assert api.call("sessions/get_listener_port", sessionId=api.session()) is None


def without_ids(snapshot: Snapshot) -> list[list[Any]]:
    """What is left of a snapshot if ids are new each time."""
    entries = [{**entry, "id": None} for entry in snapshot["entries"].values()]
    return [entries, *(list(snapshot[key].values()) for key in ("request_bodies", "response_bodies", "messages"))]


def test_a_har_file_is_served_with_what_a_mitmdump_records_of_it(confdir: Path, tmp_path: Path) -> None:
    flow, har = FLOWS / "plain.flow", tmp_path / "plain.har"
    assert run("export", "har", "last", flow, "-o", har).returncode == 0
    with recording(confdir, "-n", "-r", str(har), "--set", "keepserving=true", listens=False) as proxy:
        replayed = settled(proxy.api, 3)
    with serving(har) as server, Api(server.url) as api:
        assert without_ids(take(api)) == without_ids(replayed)


def test_a_store_that_is_being_written_is_served_with_its_new_entries(stored: tuple[Path, Proxy, Origin]) -> None:
    path, proxy, origin = stored
    origin.answers["/served"] = answer(b"body")
    with serving(path) as server, Api(server.url) as api:
        assert api.entries() == []
        curl(proxy, origin.url("/served"))
        entry = api.wait_for("/served", lambda entry: entry["process"])
        assert api.body("response", entry) == "body"
        assert entry == proxy.api.get(entry["id"])


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_well_when_it_is_told_to(with_signal: signal.Signals) -> None:
    with serving(FLOWS / "ipv6.flow", with_signal=with_signal) as server:
        pass
    assert (server.exit_code, server.complaints) == (0, "")


def test_what_serving_a_capture_needs_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(FLOWS / "ipv6.flow"):
        (folder,) = tmp_path.glob("entries-*")
        assert folder.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []


def test_who_has_no_token_is_not_let_in() -> None:
    with serving(FLOWS / "ipv6.flow", "--token", "a" * 22) as server:
        assert server.url.endswith("/?token=" + "a" * 22)
        with pytest.raises(InvalidStatus, match="401"):
            Api(server.url.replace("a" * 22, "b" * 22))


def test_a_port_that_is_in_use_is_one_sentence() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("serve", FLOWS / "ipv6.flow", "--port", port)
    assert ended.returncode == 1
    assert ended.sentence.startswith(f"The endpoint cannot listen on {HOST}:{port}: ")


@pytest.mark.parametrize(
    "words",
    [
        ("--port", "65536"),
        ("--port", "x"),
        ("--token", "a b"),
        ("--token", "short", "--host", "0.0.0.0"),
        ("--origin", "null"),
        ("--tls-key", "key.pem"),
    ],
)
def test_what_cannot_be_served_like_that_is_wrong_usage(words: tuple[str, ...]) -> None:
    ended = run("serve", FLOWS / "ipv6.flow", *words)
    assert ended.returncode == 2
    assert b"usage: " in ended.stderr


# Files that are none of ours


def broken_files(folder: Path) -> Iterator[Path]:
    with closing(sqlite3.connect(folder / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE other (x)")
    flow = (FLOWS / "plain.flow").read_bytes()
    contents = {
        "text.txt": b"hello\n",
        "cut.flow": flow[: len(flow) - 10],
        "late.flow": flow + b"nonsense",
        "cut.har": b'{"log": {"entries": [',
        "other.har": b"{}",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    yield from (folder / name for name in ("foreign.db", *contents, "missing.db", "."))


def test_each_file_that_cannot_be_read_is_one_sentence_that_names_it_and_left_as_it_is(tmp_path: Path) -> None:
    for path in broken_files(tmp_path):
        before = path.read_bytes() if path.is_file() else None
        ended = run("list", path)
        assert (ended.returncode, ended.stdout) == (1, b""), path
        assert ended.sentence.startswith(f"The file {path} "), ended.sentence
        assert ended.sentence.endswith("."), ended.sentence
        assert (path.read_bytes() if path.is_file() else None) == before


# list, show


def test_the_sessions_of_a_store_are_listed_with_how_many_entries_they_have(
    stored: tuple[Path, Proxy, Origin],
) -> None:
    path, proxy, origin = stored
    origin.answers["/listed"] = answer(b"")
    curl(proxy, origin.url("/listed"))
    proxy.api.wait_for("/listed")
    ended = run("list", path)
    assert ended.returncode == 0
    assert ended.stdout.decode() == f"{proxy.api.session()}  1 entries  now\n"


def test_an_entry_is_shown_of_a_store_of_an_endpoint_and_of_the_instance_that_was_started_last(
    tmp_path: Path, plain_origin: Origin
) -> None:
    store, home = tmp_path / "file.db", tmp_path / "home"
    plain_origin.answers["/shown"] = answer(b"")
    with recording(home / ".mitmproxy", "--set", f"entries_store={store}") as proxy:
        curl(proxy, plain_origin.url("/shown"))
        entry = proxy.api.wait_for("/shown", lambda entry: entry["process"])
        for source in ([store], [proxy.url], []):
            ended = run("show", entry["id"], *source, home=home)
            assert ended.returncode == 0, ended
            assert json.loads(ended.stdout) == entry
        assert run("list", home=home).stdout == run("list", store).stdout


def test_without_a_running_instance_it_is_said_what_to_name(tmp_path: Path) -> None:
    ended = run("list", home=tmp_path)
    assert ended.returncode == 1
    assert ended.sentence.startswith("No mitmdump with the addon is running")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:9/", "ws://127.0.0.1:999999/", "ws://"])
def test_an_endpoint_that_is_not_there_is_one_sentence(url: str) -> None:
    ended = run("list", url)
    assert ended.returncode == 1
    assert ended.sentence.startswith(f"The endpoint {url} cannot be reached: ")


def test_what_is_not_found_is_one_sentence_and_exit_code_1(stored: tuple[Path, Proxy, Origin]) -> None:
    path, *_ = stored
    assert (run("show", "X", path).returncode, run("show", "X", path).sentence) == (1, "There is no entry X.")
    assert run("export", "har", "X", path).sentence == "There is no session X."


# export


def test_exported_har_is_har_1_2_with_every_entry_in_order(exported: Path, capture: Path) -> None:
    har = har_model.check(exported.read_bytes())
    _, recorded = captured(*(path.stem for path in sorted(FLOWS.glob("*.flow"))))
    assert [(entry.model_extra or {})["_id"] for entry in har.log.entries] == list(recorded["entries"])
    assert har.log.comment == capture.name


def test_exported_har_is_opened_by_the_developer_tools_of_chromium(exported: Path, tmp_path: Path) -> None:
    seen = {request["url"]: request for request in opened_har(tmp_path / "profile", exported)}
    entries = {entry["request"]["url"]: entry for entry in json.loads(exported.read_bytes())["log"]["entries"]}
    assert seen.keys() == entries.keys()
    for url, entry in entries.items():
        content, request = entry["response"]["content"], seen[url]
        assert (request["method"], request["status"]) == (entry["request"]["method"], entry["response"]["status"])
        if content.get("encoding") is None:
            assert request["text"] == content.get("text", ""), url
        frames = [[frame["type"], frame["opcode"], frame["data"]] for frame in entry.get("_webSocketMessages", ())]
        assert request["frames"] == frames
        assert request["type"] == "websocket" or not frames
        if "serverIPAddress" in entry:
            assert request["remote"].endswith(f":{entry['connection']}")


def test_exported_har_is_read_by_mitmproxy_with_the_bodies_that_were_recorded(tmp_path: Path) -> None:
    path = tmp_path / "http2.har"
    _, recorded = captured("http2")
    assert run("export", "har", "http2.flow", FLOWS / "http2.flow", "-o", path).returncode == 0
    with path.open("rb") as file:
        flows: list[Any] = list(FlowReader(file).stream())
    urls = [entry["url"] for entry in recorded["entries"].values()]
    assert [flow.request.url for flow in flows] == urls
    with serving(path) as server, Api(server.url) as api:
        again = take(api)
    assert list(again["response_bodies"].values()) == list(recorded["response_bodies"].values())


def test_export_goes_to_standard_output_if_no_file_is_named(stored: tuple[Path, Proxy, Origin]) -> None:
    path, proxy, _ = stored
    for session in ("now", "last", proxy.api.session()):
        ended = run("export", "har", session, path)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert har_model.check(ended.stdout).log.entries == []


def test_a_running_instance_exports_the_same_as_its_store(stored: tuple[Path, Proxy, Origin]) -> None:
    path, proxy, origin = stored
    origin.answers["/exported"] = answer(bytes(1000))
    curl(proxy, origin.url("/exported"), "-d", "sent")
    proxy.api.wait_for("/exported", lambda entry: entry["process"])
    assert run("export", "har", "last", proxy.url).stdout == run("export", "har", "last", path).stdout


def test_a_file_that_cannot_be_written_is_one_sentence_and_leaves_nothing(
    stored: tuple[Path, Proxy, Origin], tmp_path: Path
) -> None:
    path, *_ = stored
    ended = run("export", "har", "last", path, "-o", tmp_path / "no" / "x.har")
    assert ended.returncode == 1
    assert "cannot be written" in ended.sentence
    (folder := tmp_path / "folder").mkdir()
    ended = run("export", "har", "last", path, "-o", folder)
    assert ended.returncode == 1
    assert "cannot be written" in ended.sentence
    assert list(tmp_path.glob("*.part")) == []


# The terminal


def test_a_terminal_shows_how_far_long_work_is(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "export", "har", "last", str(FLOWS / "plain.flow"), "-o", str(tmp_path / "x.har")]
    subprocess.run(command, stderr=theirs, check=True, cwd=ROOT)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)
    assert "Reading [" in shown
    assert "Exporting [" in shown


@pytest.mark.parametrize("words", [(), ("serve",), ("list",), ("show",), ("export",), ("export", "har")])
def test_each_command_has_help(words: tuple[str, ...]) -> None:
    ended = run(*words, "--help")
    assert ended.returncode == 0
    assert ended.stdout.startswith(b"usage: python -m rpc ")


@pytest.mark.parametrize("words", [(), ("nonsense",), ("serve",), ("show",), ("export",), ("export", "har")])
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"usage: python -m rpc")
