"""Bodies as they are answered: the content encoding undone, as a JSON string of the text or of base64.

A small body is answered at once. A larger one is read, undone and rendered piece by piece, in memory that does not
depend on its size; since it is the bytes as transferred that are answered if undoing fails, it is undone once before
the first piece and a second time for what is answered. Nothing here knows where it is stored.
"""

from __future__ import annotations

import binascii
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

from rpc.charsets import TextReader
from rpc.codings import CodingError, undone
from rpc.jsonrpc import json_string
from rpc.store import BodyData
from rpc.turns import Turns

type Encoding = Literal["text", "base64"]

MAX_AT_ONCE = 256 * 1024
"""Bytes, as transferred and also when undone, that are answered at once."""

MAX_STEPS_AT_ONCE = 16
"""Steps of undoing that are made at once: the empty parts of a body of many take time too."""

STEPS_PER_TURN = 64
"""Steps of undoing before others get their turn, if they do not take long."""

BLOCK_SIZE = 96 * 1024
"""Bytes that are rendered at a time; somewhat more if they come in large pieces."""


class Body(NamedTuple):
    """A body, and what there is to know to answer it.

    Of one that is not `complete`, a character or a piece of encoded data that has come in part is left out.
    """

    data: BodyData
    codings: tuple[str, ...]
    charset: str
    complete: bool


def at_once(body: Body, encoding: Encoding) -> str | None:
    """Return the body as a JSON string; null if it is too large for that."""
    if body.data.size > MAX_AT_ONCE or (plain := _plain_at_once(body)) is None:
        return None
    if encoding == "base64":
        return f'"{_base64(plain)}"'
    return json_string(TextReader(body.charset).read(plain, last=body.complete))


def _plain_at_once(body: Body) -> bytes | None:
    transferred = b"".join(body.data.pieces())
    if not body.codings:
        return transferred
    try:
        return _joined(undone([transferred], body.codings, complete=body.complete))
    except CodingError:
        return transferred


def _joined(pieces: Iterable[bytes]) -> bytes | None:
    """Return the pieces in one; null if they are too large or too many."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > MAX_AT_ONCE or len(held) > MAX_STEPS_AT_ONCE:
            return None
    return b"".join(held)


def plain(body: Body) -> bytes:
    """Return the whole body with its content encoding undone, however large it is. Raises `BodyChangedError`."""
    try:
        return b"".join(undone(body.data.pieces(), body.codings, complete=body.complete))
    except CodingError:
        return b"".join(body.data.pieces())


async def in_pieces(body: Body, encoding: Encoding) -> AsyncGenerator[str]:
    """Return the body as the pieces of a JSON string, once it is known which bytes they will be."""
    codings = body.codings if await _can_be_undone(body) else ()
    render = _Base64() if encoding == "base64" else _Text(TextReader(body.charset), complete=body.complete)
    return _rendered(undone(body.data.pieces(), codings, complete=body.complete), render)


async def _can_be_undone(body: Body) -> bool:
    if not body.codings:
        return True
    turns = Turns(STEPS_PER_TURN)
    try:
        for _ in undone(body.data.pieces(), body.codings, complete=body.complete):
            await turns.step()
    except CodingError:
        return False
    return True


class _Renderer(Protocol):
    def render(self, block: bytes, *, last: bool) -> str:
        """Return the next characters of the JSON string. Every block but the last has a multiple of three bytes."""
        ...


class _Base64:
    def render(self, block: bytes, *, last: bool) -> str:  # noqa: ARG002
        return _base64(block)


class _Text:
    def __init__(self, reader: TextReader, *, complete: bool) -> None:
        self._reader = reader
        self._complete = complete

    def render(self, block: bytes, *, last: bool) -> str:
        return json_string(self._reader.read(block, last=last and self._complete))[1:-1]


async def _rendered(pieces: Iterator[bytes], renderer: _Renderer) -> AsyncGenerator[str]:
    yield '"'
    held: list[bytes] = []
    size = 0
    turns = Turns(STEPS_PER_TURN)
    for piece in pieces:
        await turns.step()
        held.append(piece)
        size += len(piece)
        if size >= BLOCK_SIZE:
            block = b"".join(held)
            size %= 3
            held = [block[len(block) - size :]]
            yield renderer.render(block[: len(block) - size], last=False)
    yield renderer.render(b"".join(held), last=True)
    yield '"'


def _base64(data: bytes) -> str:
    """Return the bytes in base64: standard alphabet, padded (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")
