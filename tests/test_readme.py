"""The README tells the truth: its commands and programs run, and what it lists is what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from addon.entries import OPTIONS
from rpc.api import api
from rpc.store import SqliteStore
from tests.peers.clients import curl
from tests.peers.commands import run
from tests.peers.origin import Origin, answer
from tests.peers.programs import PACKAGES, program
from tests.peers.proxy import ROOT, Proxy

README = (ROOT / "README.md").read_text()

RUN = "pip install uv && uv run mitmdump -s addon/entries.py"
TEST = "pip install uv && uv run pytest"
COMMANDS = {"serve", "list", "show", "export"}


def section(title: str) -> str:
    """The text of a section, without the sections below its own level."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", README, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[2]


def snippet(mark: str) -> str:
    """The code block behind a comment that says what runs it."""
    match = re.search(rf"^<!-- test: {mark} -->\n```\w+\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert match is not None, mark
    return match[1]


def test_every_option_is_in_the_table_with_its_default_and_none_else_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`|\*\(empty\)\*) \|", section("Options"), re.MULTILINE)
    told = {name: str(default).lower() if kind is bool else str(default or "") for name, kind, default, _ in OPTIONS}
    assert dict(rows) == told


def test_every_method_has_a_section_and_every_section_a_method(tmp_path: Path) -> None:
    titles = re.findall(r"^### (.*)$", section("The API"), re.MULTILINE)
    named = {name for title in titles for name in re.findall(r"`([a-z]+[/.]\w+)`", title)}
    with closing(SqliteStore(tmp_path / "entries.db")) as store:
        assert named == set(api(store, None).dispatcher.names)


def test_the_first_two_commands_are_those_that_run_it_and_its_tests() -> None:
    commands = re.findall(r"^```sh\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)
    assert commands[0] == RUN
    assert TEST in commands
    assert TEST in (ROOT / ".ci" / "run").read_text()


def test_the_python_named_is_the_oldest_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert f"Python {oldest} or newer" in section("Run it")


def test_what_the_tests_need_is_installed_where_they_must_not_be_skipped() -> None:
    programs = re.search(r'programs="(.*?)"', (ROOT / ".ci" / "run").read_text(), re.DOTALL)
    assert programs is not None
    assert dict(pair.split(":") for pair in programs[1].split()) == PACKAGES


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+)", README))))
def test_each_module_that_is_to_be_run_can_be(module: str) -> None:
    path = ROOT / Path(*module.split("."))
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def test_the_python_program_prints_what_was_recorded(proxy: Proxy, plain_origin: Origin, tmp_path: Path) -> None:
    plain_origin.answers["/python-program"] = answer(b"")
    curl(proxy, plain_origin.url("/python-program"))
    proxy.api.wait_for("/python-program")
    script = tmp_path / "first.py"
    script.write_text(snippet("python"))
    done = subprocess.run([sys.executable, str(script), proxy.url], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "/python-program" in line]
    assert re.fullmatch(rf"GET {re.escape(plain_origin.url('/python-program'))} 200 \d+", line)


def test_the_javascript_program_prints_what_was_recorded(proxy: Proxy, plain_origin: Origin, tmp_path: Path) -> None:
    plain_origin.answers["/javascript-program"] = answer(b"")
    curl(proxy, plain_origin.url("/javascript-program"))
    proxy.api.wait_for("/javascript-program")
    script = tmp_path / "first.js"
    script.write_text(snippet("javascript"))
    node = program("node")
    # Node.js has WebSocket since 22; before that, behind a flag.
    flags = ["--experimental-websocket"] if _major(node) < 22 else []
    done = subprocess.run([node, *flags, str(script), proxy.url], capture_output=True, text=True, check=True)
    assert f"GET {plain_origin.url('/javascript-program')} 200" in done.stdout.splitlines()


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.removeprefix("v").partition(".")[0])


def test_the_command_line_has_the_commands_and_options_that_are_told() -> None:
    text = section("The command line")
    assert set(re.findall(r"python -m rpc (\w+)", text)) == COMMANDS
    serve = run("serve", "--help").stdout.decode()
    assert all(option in serve for option in re.findall(r"`(--(?!help)[a-z-]+)`", text))
