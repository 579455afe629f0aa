"""Start and end of a recording mitmdump: what it prints, what it refuses, what it leaves behind."""

from __future__ import annotations

import re
import socket
import sqlite3
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.peers.api import Api, eventually
from tests.peers.clients import curl
from tests.peers.listener import HOST
from tests.peers.origin import Origin, answer
from tests.peers.proxy import ENDPOINT, recording, running, with_script


def test_it_prints_one_line_with_url_and_token_also_when_quiet(confdir: Path) -> None:
    with running(*with_script(confdir), "-q") as mitmdump:
        mitmdump.wait_for_line(ENDPOINT)
    (line,) = mitmdump.lines
    assert re.fullmatch(r"Entries endpoint: ws://127\.0\.0\.1:\d+/\?token=[A-Za-z0-9_-]{43}", line)


def test_it_ends_with_exit_code_0_and_leaves_no_process_and_no_file(
    confdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with recording(confdir) as proxy:
        children = proxy.mitmdump.children()
        assert len(children) == 1
        assert list(tmp_path.iterdir())
    assert proxy.mitmdump.wait() == 0
    assert not any(child.is_running() for child in children)
    assert list(tmp_path.iterdir()) == []


def test_the_token_can_be_chosen_and_is_required(confdir: Path) -> None:
    with recording(confdir, "--set", "rpc_token=my.token-1") as proxy:
        assert proxy.url.endswith("?token=my.token-1")
        address = proxy.url.partition("?")[0]
        for target in (address, f"{address}?token=my.token-2", f"{address}?token="):
            with pytest.raises(InvalidStatus) as refused, connect(target, proxy=None):
                pass
            assert refused.value.response.status_code == 401
        header = {"Authorization": "Bearer my.token-1"}
        with connect(address, proxy=None, additional_headers=header) as socket_:
            socket_.send('{"jsonrpc":"2.0","id":1,"method":"sessions/list"}')
            assert '"result":[{' in str(socket_.recv())


def test_the_session_has_the_name_that_it_was_given(confdir: Path) -> None:
    with recording(confdir, "--set", "entries_session_name=Grüße") as proxy:
        assert [session["name"] for session in proxy.api.call("sessions/list")] == ["Grüße"]


def test_a_session_without_a_name_is_named_after_its_time(confdir: Path) -> None:
    with recording(confdir) as proxy:
        (session,) = proxy.api.call("sessions/list")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", session["name"])


def test_a_store_that_stays_collects_sessions(confdir: Path, tmp_path: Path, plain_origin: Origin) -> None:
    plain_origin.answers["/stays"] = answer(b"kept")
    store = ("--set", f"entries_store={tmp_path / 'entries.db'}")
    with recording(confdir, *store, "--set", "entries_session_name=first") as proxy:
        curl(proxy, plain_origin.url("/stays"))
        entry = proxy.api.wait_for("/stays")
        first = proxy.api.session()
    with recording(confdir, *store, "--set", "entries_session_name=second") as proxy:
        assert [session["name"] for session in proxy.api.call("sessions/list")] == ["first", "second"]
        kept = proxy.api.get(entry["id"], first)
        assert kept | {"process": None} == entry | {"process": None}
        assert proxy.api.call("sessions/get_listener_port", sessionId=first) is None


def test_an_ipv6_endpoint_has_its_address_in_brackets(confdir: Path) -> None:
    with recording(confdir, "--set", "rpc_listen_host=::1") as proxy:
        assert proxy.url.startswith("ws://[::1]:")
        assert proxy.api.session()


def test_an_option_cannot_be_changed_while_it_records_and_the_recording_goes_on(
    confdir: Path, tmp_path: Path, plain_origin: Origin
) -> None:
    script = tmp_path / "change.py"
    script.write_text(
        "from mitmproxy import ctx, exceptions\n"
        "def request(flow):\n"
        "    try:\n"
        "        ctx.options.update(rpc_token='other')\n"
        "    except exceptions.OptionsError as error:\n"
        "        flow.request.headers['x-error'] = str(error)\n"
    )
    plain_origin.answers["/changing"] = answer(b"")
    with recording(confdir, "-s", str(script)) as proxy:
        curl(proxy, plain_origin.url("/changing"))
        entry = proxy.api.wait_for("/changing")
    assert ["x-error", "rpc_token cannot be changed while entries are recorded."] in entry["request"]["headers"]


# Refusals


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("rpc_listen_port", "70000", "rpc_listen_port must be between 0 and 65535, not 70000."),
        ("rpc_listen_port", "-1", "rpc_listen_port must be between 0 and 65535, not -1."),
        ("rpc_listen_port", "many", "Failed to parse option rpc_listen_port"),
        ("rpc_listen_host", "", "rpc_listen_host must be an address or a host name."),
        ("rpc_token", "a b", "rpc_token may only have letters, digits and the characters - . _ ~ in it."),
        ("entries_stream_sse", "maybe", "entries_stream_sse"),
    ],
)
def test_a_bad_value_ends_it_with_a_sentence(confdir: Path, option: str, value: str, sentence: str) -> None:
    assert sentence in refusal(confdir, **{option: value})


def test_a_port_in_use_ends_it_with_one_sentence(confdir: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        output = refusal(confdir, rpc_listen_port=port)
    assert f"The endpoint cannot listen on {HOST}:{port} (rpc_listen_port): " in output
    assert "Traceback" not in output


def test_a_store_that_cannot_be_written_ends_it_with_one_sentence(confdir: Path, tmp_path: Path) -> None:
    store = tmp_path / "no such folder" / "entries.db"
    output = refusal(confdir, entries_store=store)
    assert f"The store {store} cannot be used: " in output
    assert "Traceback" not in output


def test_a_foreign_file_is_refused_and_not_altered(confdir: Path, tmp_path: Path) -> None:
    store = tmp_path / "foreign.db"
    connection = sqlite3.connect(store)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = store.read_bytes()
    assert f"The file {store} is not a store of entries; it is left as it is." in refusal(confdir, entries_store=store)
    assert store.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.db"]


def refusal(confdir: Path, **options: object) -> str:
    """Start a mitmdump that must not come up, and return what it printed."""
    with running(*with_script(confdir, **options)) as mitmdump:
        assert mitmdump.wait() != 0
    return eventually(lambda: mitmdump.output, lambda output: "Error logged during startup" in output)


# The child


def test_the_child_ends_when_mitmdump_is_killed(confdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with recording(confdir) as proxy:
        (child,) = proxy.mitmdump.children()
        proxy.mitmdump.process.kill()
        proxy.mitmdump.wait()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_working_folder_is_not_taken_for_a_module(confdir: Path, tmp_path: Path) -> None:
    for name in ("rpc", "json", "sqlite3", "records"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    with running(*with_script(confdir), cwd=tmp_path) as mitmdump, Api(mitmdump.wait_for_line(ENDPOINT)) as api:
        assert api.session()


# Bad input


def test_what_is_no_request_disturbs_neither_its_connection_nor_another(confdir: Path) -> None:
    with recording(confdir) as proxy, Api(proxy.url) as other:
        session = proxy.api.session()
        for text, code in (
            ("{", -32700),
            ("[]", -32600),
            ("1", -32600),
            ('{"jsonrpc":"2.0","id":1,"method":"x"}', -32601),
        ):
            assert f'"code":{code}' in proxy.api.exchange(text)
            assert other.session() == proxy.api.session() == session


def test_a_request_that_is_no_http_leaves_no_entry_and_the_proxy_goes_on(confdir: Path, plain_origin: Origin) -> None:
    plain_origin.answers["/after"] = answer(b"")
    with recording(confdir) as proxy:
        for data in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /x HTTP/1.1\r\n\r\n"):
            with socket.create_connection((HOST, proxy.port)) as client:
                client.sendall(data)
                client.settimeout(30)
                while client.recv(4096):
                    pass
        curl(proxy, plain_origin.url("/after"))
        proxy.api.wait_for("/after")
        assert [entry["url"] for entry in proxy.api.entries()] == [plain_origin.url("/after")]
        assert proxy.mitmdump.process.poll() is None
    assert "Recording is incomplete" not in proxy.mitmdump.output
