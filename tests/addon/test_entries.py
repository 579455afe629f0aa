"""What the script declares and checks; what it does while it runs is tested end to end."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

import pytest
from mitmproxy.exceptions import OptionsError
from mitmproxy.test import taddons

from addon.entries import OPTIONS, Entries

FOLDER = Path(__file__).parents[2] / "addon"


@pytest.fixture
def addon() -> Iterator[tuple[Entries, taddons.context]]:
    entries = Entries()
    with taddons.context(loadcore=False) as context:
        context.master.addons.add(entries)
        yield entries, context


def test_every_option_has_a_default_of_its_type_and_a_help_text() -> None:
    for name, kind, default, explanation in OPTIONS:
        assert isinstance(default, get_origin(kind) or kind), name
        assert explanation.endswith("."), name
        assert explanation[0].isupper(), name


def test_the_defaults_are_good(addon: tuple[Entries, taddons.context]) -> None:
    entries, _ = addon
    entries.configure({name for name, *_ in OPTIONS})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rpc_listen_port": 65536}, "rpc_listen_port must be between 0 and 65535, not 65536."),
        ({"rpc_listen_port": -1}, "rpc_listen_port must be between 0 and 65535, not -1."),
        ({"rpc_listen_host": ""}, "rpc_listen_host must be an address or a host name."),
        ({"rpc_token": "a/b"}, "rpc_token may only have letters, digits and the characters - . _ ~ in it."),
        ({"entries_max_disk": "much"}, "entries_max_disk"),
    ],
    ids=str,
)
def test_a_bad_value_is_refused_with_a_sentence(
    addon: tuple[Entries, taddons.context], options: dict[str, object], sentence: str
) -> None:
    _, context = addon
    with pytest.raises(OptionsError, match=sentence.replace(".", r"\.")):
        context.options.update(**options)


def test_the_folder_of_the_script_hides_no_module() -> None:
    """mitmproxy puts the script's folder at the head of `sys.path`: its files come before every other module."""
    names = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    distributions = importlib.metadata.packages_distributions()
    assert not names & sys.stdlib_module_names
    assert not names & distributions.keys()
