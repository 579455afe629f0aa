"""How much there is in a JSON text, and how deep, told without decoding it.

Decoders recurse, and give up at depths of their own; what they make of a MiB of brackets takes them half a second.
Everything here takes a few milliseconds for a MiB, whatever is in it.
"""

from __future__ import annotations

OTHER_BYTES = bytes(set(range(256)) - set(b"[]"))


def has_more_values(text: str, limit: int) -> bool:
    """Return whether there are more than `limit` commas and opening brackets: a comma less than there are values.

    Of text that is no JSON the answer may be either, as with the other function.
    """
    return (
        _openings(text) + text.count(",") > limit and _openings(outside := _outside(text)) + outside.count(",") > limit
    )


def is_deeper(text: str, limit: int) -> bool:
    """Return whether arrays and objects stand in each other more than `limit` deep. Ask about the values before."""
    if _openings(text) <= limit:
        return False
    brackets = (
        _outside(text).replace("{", "[").replace("}", "]").encode("utf-8", "replace").translate(None, OTHER_BYTES)
    )
    # Each step takes away the innermost ones.
    return bool(brackets) and all(brackets := brackets.replace(b"[]", b"") for _ in range(limit))


def _openings(text: str) -> int:
    return text.count("[") + text.count("{")


def _outside(text: str) -> str:
    """Return what is not in strings."""
    return "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
