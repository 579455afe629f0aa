"""A script for mitmdump, loaded after `addon/entries.py`: all is recorded as ever, but no process is sought."""

from __future__ import annotations

from typing import Any

from addon.clients import Client

_init = Client.__init__


def _seek_nothing(self: Client, *arguments: Any, **options: Any) -> None:
    _init(self, *arguments, **{**options, "find_process": False})


Client.__init__ = _seek_nothing  # type: ignore[method-assign]
