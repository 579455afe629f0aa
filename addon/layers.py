"""Seeing what mitmproxy's proxy core does: classes of it are replaced while recording goes on, and commands observed.

mitmproxy looks each class up by its name whenever it makes an object of it; so what is there already stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mitmproxy.proxy.commands import Command

type Commands[Result] = Generator[Command, Any, Result]


@contextmanager
def replaced(module: ModuleType | type, replacements: Mapping[str, object]) -> Iterator[None]:
    """Put `replacements` under their names into a module or class while this is entered."""
    originals = {name: getattr(module, name) for name in replacements}
    for name, replacement in replacements.items():
        setattr(module, name, replacement)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(module, name, original)


def observed[Result](commands: Commands[Result], see: Callable[[Command], None]) -> Commands[Result]:
    """Pass on commands and the replies to them, and show each command to `see` before."""
    reply = None
    try:
        while True:
            command = commands.send(reply)
            see(command)
            reply = yield command
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
