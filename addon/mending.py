"""Records whose texts cannot be encoded: an addon can put a lone surrogate into a host or a message."""

from __future__ import annotations

import re
from typing import cast

import msgspec
from msgspec import structs

SURROGATE = re.compile("[\ud800-\udfff]")


def mended[Value](value: Value) -> Value:
    """Return a record, or what is in one, with U+FFFD for each lone surrogate."""
    return cast(Value, _mended(value))


def _mended(value: object) -> object:
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, tuple):
        return tuple(map(_mended, value))
    if isinstance(value, msgspec.Struct):
        return structs.replace(value, **{name: _mended(getattr(value, name)) for name in value.__struct_fields__})
    return value


def is_text(said: str) -> bool:
    """Return whether a string from the command line or an addon has no lone surrogate in it."""
    return SURROGATE.search(said) is None
