"""Who comes in at a recording mitmdump, what it says about that, and what others on the machine can read."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import stat
from pathlib import Path

import pytest
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from rpc import runfile
from tests.peers.api import Api, eventually
from tests.peers.authority import Authority
from tests.peers.clients import curl
from tests.peers.listener import HOST
from tests.peers.origin import Origin, answer
from tests.peers.proxy import ENDPOINT, recording, running, with_script

EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
PAGE = "https://app.example"


# The run file


def test_a_run_file_lets_others_in_while_it_runs(tmp_path: Path) -> None:
    with recording(tmp_path) as proxy:
        (found,) = runfile.running(tmp_path)
        assert found.pid == proxy.mitmdump.process.pid
        assert found.run.session_id == proxy.api.session()
        assert f"{found.run.url}?token={found.run.token}" == proxy.url
        with Api(f"{found.run.url}?token={found.run.token}") as api:
            assert api.session() == found.run.session_id
    assert list((tmp_path / "entries").iterdir()) == []


@pytest.mark.parametrize("dies", ["mitmdump", "recorder"])
def test_the_run_file_goes_with_the_run_whichever_process_is_killed(tmp_path: Path, dies: str) -> None:
    with recording(tmp_path) as proxy:
        (child,) = proxy.mitmdump.children()
        (before,) = runfile.running(tmp_path)
        os.kill(proxy.mitmdump.process.pid if dies == "mitmdump" else child.pid, signal.SIGKILL)
        if dies == "recorder":
            proxy.mitmdump.wait_for_line(re.compile("(another one takes its place)"))
            eventually(proxy.mitmdump.children, bool)
            assert runfile.running(tmp_path) == [before]
    assert eventually(lambda: list((tmp_path / "entries").iterdir()), lambda found: not found) == []


def test_two_runs_have_a_file_each(tmp_path: Path) -> None:
    with recording(tmp_path) as first, recording(tmp_path) as second:
        pids = [found.pid for found in runfile.running(tmp_path)]
        assert pids == [second.mitmdump.process.pid, first.mitmdump.process.pid]


def test_a_configuration_folder_that_cannot_be_written_costs_the_run_file_only(tmp_path: Path) -> None:
    (tmp_path / "entries").write_text("in the way")
    with recording(tmp_path) as proxy:
        assert proxy.api.session()
        eventually(lambda: proxy.mitmdump.output, lambda output: "json cannot be written: " in output)


# What others on the machine can read


def test_nothing_that_is_written_can_be_read_by_others_whatever_the_umask(
    tmp_path: Path, plain_origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, confdir, stores = (tmp_path / name for name in ("tmp", "confdir", "stores"))
    for folder in (temporary, confdir, stores):
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    plain_origin.answers["/secret"] = answer(b"x" * 300_000)
    before = os.umask(0)
    try:
        for store in ("", str(stores / "entries.db")):
            with recording(confdir, "--set", f"entries_store={store}") as proxy:
                curl(proxy, plain_origin.url("/secret"))
                proxy.api.wait_for("/secret")
                assert open_to_others(temporary) == open_to_others(stores) == open_to_others(confdir / "entries") == []
    finally:
        os.umask(before)
    assert open_to_others(stores) == []


def open_to_others(folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.exists()]
    return [f"{path}: {stat.filemode(path.lstat().st_mode)}" for path in found if path.lstat().st_mode & 0o077]


def test_the_token_is_nowhere_but_in_the_first_line(tmp_path: Path) -> None:
    with running(*with_script(tmp_path, termlog_verbosity="debug")) as mitmdump:
        url = mitmdump.wait_for_line(ENDPOINT)
        address, _, token = url.partition("?token=")
        for target, fields in (
            (f"{url}x", {}),
            (url, {"Origin": PAGE}),
            (address, {"Authorization": f"Bearer {token}x"}),
        ):
            with pytest.raises(InvalidStatus) as refused, connect(target, additional_headers=fields, proxy=None):
                pass
            assert token not in str(refused.value.response)
        (child,) = mitmdump.children()
        assert token not in " ".join([*child.cmdline(), *child.environ().values()])
    assert [token in line for line in mitmdump.lines].count(True) == 1


# What is no text


def test_a_session_name_that_is_no_text_is_mended_and_a_path_that_is_none_is_refused(tmp_path: Path) -> None:
    with recording(tmp_path, "--set", "entries_session_name=a\udcff") as proxy:
        assert [session["name"] for session in proxy.api.call("sessions/list")] == ["a\ufffd"]
    with running(*with_script(tmp_path, entries_store="a\udcff")) as mitmdump:
        assert mitmdump.wait() != 0
    assert "entries_store must be UTF-8." in eventually(lambda: mitmdump.output, lambda output: "UTF-8" in output)


# Browsers


def test_pages_and_extensions_come_in_if_they_are_listed(tmp_path: Path) -> None:
    listed = [argument for origin in (EXTENSION, PAGE) for argument in ("--set", f"rpc_allowed_origins={origin}")]
    with recording(tmp_path, *listed) as proxy:
        for origin in (EXTENSION, PAGE):
            with connect(proxy.url, additional_headers={"Origin": origin}, proxy=None) as page:
                page.send('{"jsonrpc":"2.0","id":1,"method":"sessions/list"}')
                assert "result" in json.loads(page.recv())
        for origin in ("https://evil.example", "null", "http://127.0.0.1"):
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(proxy.url, additional_headers={"Origin": origin}, proxy=None),
            ):
                pass
            assert refused.value.response.status_code == 403


# Listening elsewhere


def test_listening_elsewhere_is_warned_of_and_serves_tls(tmp_path: Path, authority: Authority) -> None:
    tls = ("--set", f"rpc_tls_cert={authority.certificate}", "--set", "rpc_listen_host=0.0.0.0")
    with running(*with_script(tmp_path), *tls) as mitmdump:
        url = mitmdump.wait_for_line(ENDPOINT)
        assert url.startswith(f"wss://{HOST}:")
        assert "The entries endpoint listens on 0.0.0.0: other machines may reach it." in mitmdump.output
        assert "Without rpc_tls_cert" not in mitmdump.output
        trusting = ssl.create_default_context(cafile=authority.ca)
        with connect(url, ssl=trusting, proxy=None) as socket:
            socket.send('{"jsonrpc":"2.0","id":1,"method":"sessions/list"}')
            assert "result" in json.loads(socket.recv())
        with pytest.raises(InvalidHandshake), connect(url.replace("wss:", "ws:"), proxy=None):
            pass


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rpc_listen_host": "0.0.0.0", "rpc_token": "short"}, "rpc_token must have 22 characters or more where"),
        ({"rpc_allowed_origins": "*"}, "rpc_allowed_origins must be origins such as https://app.example, not '*'."),
        ({"rpc_tls_cert": "/no/such.pem"}, "The file /no/such.pem cannot be read (rpc_tls_cert, rpc_tls_key): "),
        ({"rpc_tls_key": "key.pem"}, "rpc_tls_key needs rpc_tls_cert."),
        ({"rpc_max_message": "1"}, "rpc_max_message must be a size of 4k or more, not '1'."),
        ({"rpc_max_connections": "0"}, "rpc_max_connections must be 1 or more, not 0."),
    ],
)
def test_what_cannot_be_served_ends_it_with_a_sentence(
    tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    with running(*with_script(tmp_path, **options)) as mitmdump:
        assert mitmdump.wait() != 0
    assert sentence in eventually(lambda: mitmdump.output, lambda output: sentence in output)
