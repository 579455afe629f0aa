from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.proxy.commands import Command, Log

from addon.layers import observed, replaced


def test_what_is_replaced_is_put_back_also_after_an_error() -> None:
    module: Any = SimpleNamespace(first=1, second=2, third=3)

    def replace_and_fail() -> None:
        with replaced(module, {"first": "one", "second": "two"}):
            assert (module.first, module.second, module.third) == ("one", "two", 3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        replace_and_fail()
    assert (module.first, module.second, module.third) == (1, 2, 3)


def test_a_name_that_is_not_there_is_an_error_before_anything_is_replaced() -> None:
    module: Any = SimpleNamespace(first=1)
    with pytest.raises(AttributeError), replaced(module, {"first": 2, "missing": 3}):
        pass
    assert module.first == 1


def test_commands_replies_and_the_result_pass_through_and_each_command_is_seen_before() -> None:
    commands = [Log("one"), Log("two")]
    seen: list[Command] = []

    def ask() -> Generator[Command, Any, str]:
        first = yield commands[0]
        second = yield commands[1]
        return f"{first} and {second}"

    observing = observed(ask(), seen.append)
    assert next(observing) is commands[0]
    assert seen == commands[:1]
    assert observing.send("first reply") is commands[1]
    with pytest.raises(StopIteration) as done:
        observing.send("second reply")
    assert done.value.value == "first reply and second reply"
    assert seen == commands
