from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc import codings
from rpc.bodies import BLOCK_SIZE, MAX_AT_ONCE, Body, Encoding, at_once, in_pieces
from rpc.codings import STEP_SIZE

LARGE = bytes(range(256)) * 8192


class Chunks:
    """A body that has come in chunks."""

    def __init__(self, chunks: tuple[bytes, ...]) -> None:
        self.size = sum(map(len, chunks))
        self.pieces = lambda: iter(chunks)


def body(*chunks: bytes, coding: str = "", charset: str = "utf_8", complete: bool = True) -> Body:
    return Body(Chunks(chunks), codings.codings_of(coding), charset, complete)


async def collected(asked: Body, encoding: Encoding) -> list[str]:
    return [piece async for piece in await in_pieces(asked, encoding)]


def pieces(asked: Body, encoding: Encoding) -> list[str]:
    return asyncio.run(collected(asked, encoding))


def text(asked: Body) -> str:
    """Return the body's text, which is the same in both ways of answering."""
    whole = at_once(asked, "text")
    assert whole is not None
    assert "".join(pieces(asked, "text")) == whole
    parsed: str = json.loads(whole)
    return parsed


def data(asked: Body) -> bytes:
    """Return the body's bytes, which are the same in both ways of answering."""
    whole = at_once(asked, "base64")
    assert whole is not None
    assert "".join(pieces(asked, "base64")) == whole
    return base64.b64decode(json.loads(whole), validate=True)


# What is answered


def test_body_is_answered_as_text_and_as_base64() -> None:
    asked = body(b'"\xc3\xa9\n', b"\x00\xff")
    assert at_once(asked, "text") == '"\\"é\\n\\u0000\ufffd"'
    assert at_once(asked, "base64") == '"IsOpCgD/"'
    assert text(asked) == '"é\n\x00\ufffd'
    assert data(asked) == b'"\xc3\xa9\n\x00\xff'


def test_base64_is_of_the_standard_alphabet_and_padded() -> None:
    assert at_once(body(b"\xfb\xff\xfe\x00"), "base64") == '"+//+AA=="'


def test_empty_body_is_an_empty_string() -> None:
    assert at_once(body(), "text") == at_once(body(), "base64") == '""'
    assert text(body(coding="gzip")) == ""
    assert data(body(coding="gzip", complete=False)) == b""


def test_content_encoding_is_undone() -> None:
    assert (
        text(body(zlib.compress(gzip.compress("é".encode("latin-1"))), coding="gzip, deflate", charset="latin_1"))
        == "é"
    )


@pytest.mark.parametrize("coding", ["gzip", "nothing", "gzip, gzip", "nothing, gzip"])
def test_what_cannot_be_undone_is_answered_as_transferred(coding: str) -> None:
    transferred = gzip.compress(LARGE[:10_000])[:-1]
    assert data(body(transferred, coding=coding)) == transferred
    assert text(body(transferred, coding=coding)) == transferred.decode(errors="replace")


def test_large_body_whose_end_is_broken_is_answered_as_transferred_from_its_beginning() -> None:
    transferred = gzip.compress(LARGE)[:-1]
    came = pieces(body(transferred, coding="gzip"), "base64")
    assert base64.b64decode(json.loads("".join(came))) == transferred


def test_bomb_is_answered_as_transferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings, "MAX_UNDONE", len(LARGE) - 1)
    transferred = gzip.compress(LARGE)
    bomb = body(transferred, coding="gzip")
    assert base64.b64decode(json.loads("".join(pieces(bomb, "base64")))) == transferred


def test_of_a_body_that_is_arriving_what_has_come_in_part_is_left_out() -> None:
    assert text(body("a😀".encode()[:-1], complete=False)) == "a"
    assert text(body("a😀".encode()[:-1])) == "a\ufffd"
    assert data(body("a😀".encode()[:-1], complete=False)) == "a😀".encode()[:-1]
    assert LARGE.startswith(data(body(gzip.compress(LARGE[:9000])[:200], coding="gzip", complete=False)) or b"none")


# At once or in pieces


@pytest.mark.parametrize(
    "large",
    [
        body(bytes(MAX_AT_ONCE + 1)),
        body(*[bytes(MAX_AT_ONCE)] * 2),
        body(gzip.compress(bytes(MAX_AT_ONCE + 1)), coding="gzip"),
        body(gzip.compress(b"") * 1000, coding="gzip"),
    ],
)
@pytest.mark.parametrize("encoding", ["text", "base64"])
def test_large_body_is_not_answered_at_once(large: Body, encoding: Encoding) -> None:
    assert at_once(large, encoding) is None


def test_body_is_answered_at_once_up_to_a_size() -> None:
    assert text(body(b"x" * MAX_AT_ONCE)) == "x" * MAX_AT_ONCE
    assert text(body(gzip.compress(b"x" * MAX_AT_ONCE), coding="gzip")) == "x" * MAX_AT_ONCE


@pytest.mark.parametrize("encoding", ["text", "base64"])
@pytest.mark.parametrize("size", [100, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 300_000])
def test_large_body_comes_in_pieces_of_bounded_size(encoding: Encoding, size: int) -> None:
    chunks = [LARGE[at : at + size] for at in range(0, len(LARGE), size)]
    came = pieces(body(*chunks, charset="latin_1"), encoding)
    answered = json.loads("".join(came))
    assert answered == (LARGE.decode("latin-1") if encoding == "text" else base64.b64encode(LARGE).decode())
    assert max(map(len, came)) < 4 * max(BLOCK_SIZE, size)
    assert len(came) < 3 * len(LARGE) / BLOCK_SIZE


def test_large_encoded_body_comes_in_pieces_of_bounded_size() -> None:
    came = pieces(body(gzip.compress(LARGE * 20), coding="gzip"), "base64")
    assert base64.b64decode(json.loads("".join(came))) == LARGE * 20
    assert max(map(len, came)) < 2 * (BLOCK_SIZE + STEP_SIZE)


def test_others_have_their_turn_while_a_body_is_undone_and_rendered() -> None:
    asked = body(gzip.compress(LARGE * 20), coding="gzip")

    async def turns_of_others() -> tuple[int, int]:
        count = 0

        async def others() -> None:
            nonlocal count
            while True:
                count += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        rendered = await in_pieces(asked, "text")
        meanwhile = count
        async for _ in rendered:
            pass
        task.cancel()
        return meanwhile, count - meanwhile

    undoing, rendering = asyncio.run(turns_of_others())
    assert undoing >= 3
    assert rendering >= 3


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=30), max_size=5),
    st.sampled_from(["", "gzip", "deflate", "br", "zstd", "zstd, br", "nothing"]),
    st.sampled_from(["utf_8", "utf_16", "iso2022_jp", "gb18030", "latin_1"]),
    st.booleans(),
)
def test_any_bytes_are_answered_and_the_same_in_pieces(
    chunks: list[bytes], coding: str, charset: str, complete: bool
) -> None:
    asked = body(*chunks, coding=coding, charset=charset, complete=complete)
    text(asked).encode()
    data(asked)
