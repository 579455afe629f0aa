from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from rpc import runfile
from rpc.runfile import RunFile

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")

SOON = RunFile("ws://127.0.0.1:8765/", "token", "01JD8Z7T5M0E9R3Q6W2XKY4ABC", "2099-11-24T14:55:05.000Z")
"""Of a run that began later than any process."""


def path_of(confdir: Path, pid: int | str) -> Path:
    return confdir / "entries" / f"{pid}.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def _open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_it_is_json_with_the_four_things_that_a_client_needs(tmp_path: Path) -> None:
    runfile.write(path_of(tmp_path, os.getpid()), SOON)
    assert json.loads(path_of(tmp_path, os.getpid()).read_text()) == {
        "url": "ws://127.0.0.1:8765/",
        "token": "token",
        "sessionId": "01JD8Z7T5M0E9R3Q6W2XKY4ABC",
        "startedAt": "2099-11-24T14:55:05.000Z",
    }


@pytest.mark.usefixtures("_open_umask")
def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = path_of(tmp_path, os.getpid())
    runfile.write(path, SOON)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_open_to_others_is_closed_before_anything_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "entries").mkdir(mode=0o755)
    runfile.write(path_of(tmp_path, os.getpid()), SOON)
    assert mode(tmp_path / "entries") == 0o700


def test_a_folder_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "entries").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="a link"):
        runfile.write(path_of(tmp_path, os.getpid()), SOON)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    path = path_of(tmp_path, os.getpid())
    path.parent.mkdir(mode=0o700)
    target = tmp_path / "target"
    target.write_text("mine")
    path.symlink_to(target)
    path.with_name(f"{path.name}.{os.getpid()}.new").symlink_to(target)
    runfile.write(path, SOON)
    assert target.read_text() == "mine"
    assert not path.is_symlink()


def test_the_latest_run_comes_first(tmp_path: Path) -> None:
    later = msgspec.structs.replace(SOON, started_at="2099-11-24T14:55:06.000Z")
    runfile.write(path_of(tmp_path, os.getppid()), SOON)
    runfile.write(path_of(tmp_path, os.getpid()), later)
    assert runfile.running(tmp_path) == [(os.getpid(), later), (os.getppid(), SOON)]


def test_without_a_folder_nothing_runs(tmp_path: Path) -> None:
    assert runfile.running(tmp_path) == []


def test_a_run_whose_process_is_gone_is_ignored_and_removed_by_the_next_one(tmp_path: Path, dead_pid: int) -> None:
    runfile.write(path_of(tmp_path, dead_pid), SOON)
    assert runfile.running(tmp_path) == []
    runfile.write(path_of(tmp_path, os.getpid()), SOON)
    assert list((tmp_path / "entries").iterdir()) == [path_of(tmp_path, os.getpid())]


def test_a_run_whose_process_id_is_used_by_a_later_process_is_ignored(tmp_path: Path) -> None:
    runfile.write(path_of(tmp_path, os.getpid()), msgspec.structs.replace(SOON, started_at="2020-01-01T00:00:00.000Z"))
    assert runfile.running(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff", b'{"url":1}', b"null"])
def test_a_file_that_is_no_run_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    runfile.write(path_of(tmp_path, os.getpid()), SOON)
    path_of(tmp_path, os.getppid()).write_bytes(content)
    path_of(tmp_path, "notes").write_bytes(content)
    assert [pid for pid, _ in runfile.running(tmp_path)] == [os.getpid()]


def test_a_time_that_is_none_is_ignored(tmp_path: Path) -> None:
    runfile.write(path_of(tmp_path, os.getpid()), msgspec.structs.replace(SOON, started_at="soon"))
    assert runfile.running(tmp_path) == []


def test_removing_may_be_repeated(tmp_path: Path) -> None:
    path = path_of(tmp_path, os.getpid())
    runfile.write(path, SOON)
    runfile.remove(path)
    runfile.remove(path)
    assert not path.exists()
