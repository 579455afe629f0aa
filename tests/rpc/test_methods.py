from __future__ import annotations

import asyncio
import base64
import codecs
import itertools
import json
import zlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from rpc.jsonrpc import Dispatcher, Text
from rpc.methods import Methods
from rpc.store import PIECE_SIZE, BodyChangedError, SqliteStore, StoredEntry
from tests.peers.recorder import CHUNK_SIZE, SESSION, Recorder, answered, recorder, started

ENTRY = "01JD8Z7V2NDQ31SRQS54PZAQA0"


def body_request(encoding: str = "base64", identity: int = 1) -> str:
    params = {"sessionId": SESSION, "entryId": ENTRY, "encoding": encoding}
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": "sessions/get_response_body", "params": params})


# Bodies in a store


class Bodies:
    """A store with one entry, whose bodies are put and asked for."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.store.open_session(SESSION, "session", 0.0)
        self._dispatcher = Dispatcher(Methods(self.store, None).all())

    def put(self, *chunks: bytes, size: int | None = None, start: int = 0, **headers: str) -> None:
        response = {"headers": [[name.replace("_", "-"), value] for name, value in headers.items()], "bodySize": size}
        entry = json.dumps({"request": {"headers": [], "bodySize": 0}, "response": response}).encode()
        end = start + sum(map(len, chunks))
        self.store.put_entry(SESSION, StoredEntry(ENTRY, entry, 0, end, None))
        for chunk in chunks:
            self.store.put_body(SESSION, ENTRY, "response", start, chunk)
            start += len(chunk)

    async def ask(self, encoding: str) -> Text:
        answer = await self._dispatcher.answer(body_request(encoding))
        assert answer is not None
        return answer

    async def ask_in_pieces(self, encoding: str) -> AsyncGenerator[str]:
        answer = await self.ask(encoding)
        assert not isinstance(answer, str)
        return answer

    def result(self, encoding: str = "text") -> Any:
        async def answered() -> str:
            answer = await self.ask(encoding)
            return answer if isinstance(answer, str) else "".join([piece async for piece in answer])

        return json.loads(asyncio.run(answered()))["result"]


@pytest.fixture
def bodies(tmp_path: Path) -> Iterator[Bodies]:
    bodies = Bodies(tmp_path / "entries.db")
    yield bodies
    bodies.store.close()


def test_body_is_read_as_its_fields_say(bodies: Bodies) -> None:
    data = zlib.compress("é".encode("latin-1"))
    bodies.put(data, size=len(data), Content_Encoding="Deflate", Content_Type="text/plain; charset=latin1")
    assert bodies.result("text") == "é"
    assert bodies.result("base64") == "6Q=="


def test_body_without_its_size_is_still_arriving(bodies: Bodies) -> None:
    bodies.put("é".encode()[:1])
    assert bodies.result("text") == ""
    bodies.put("é".encode()[:1], size=1)
    assert bodies.result("text") == "\ufffd"


def test_body_that_grows_while_it_is_sent_is_answered_as_it_was(bodies: Bodies) -> None:
    before = [bytes([number]) * PIECE_SIZE for number in range(8)]
    bodies.put(*before)

    async def answer() -> str:
        pieces = await bodies.ask_in_pieces("base64")
        came = [await anext(pieces), await anext(pieces)]
        bodies.put(b"more", start=8 * PIECE_SIZE)
        return "".join([*came, *[piece async for piece in pieces]])

    result = json.loads(asyncio.run(answer()))["result"]
    assert base64.b64decode(result) == b"".join(before)


def test_body_that_is_replaced_while_it_is_sent_is_not_mixed_with_another(bodies: Bodies) -> None:
    bodies.put(*[b"a" * PIECE_SIZE] * 8)

    async def answer() -> None:
        pieces = await bodies.ask_in_pieces("text")
        while "a" not in await anext(pieces):
            pass
        bodies.put(*[b"b" * PIECE_SIZE] * 8)
        async for piece in pieces:
            assert "b" not in piece

    with pytest.raises(BodyChangedError):
        asyncio.run(answer())


# Large bodies, in a process of its own


SIZE = 200 * 2**20


def text_chunks() -> Iterator[bytes]:
    """Yield chunks of `SIZE` bytes together: text whose chunks end within a character."""
    text = b"a line of text that goes on and on\n" * 10_000
    chunk = "é".encode()[1:] + text[: CHUNK_SIZE - 2] + "é".encode()[:1]
    return itertools.repeat(chunk, SIZE // CHUNK_SIZE)


def gzip_chunks() -> Iterator[bytes]:
    """Yield the same bytes in gzip."""
    stream = zlib.compressobj(level=1, wbits=31)
    for chunk in text_chunks():
        yield stream.compress(chunk)
    yield stream.flush()


def peak(recording: Recorder) -> int:
    """Return the most memory that the process has had, in bytes."""
    status = Path(f"/proc/{recording.pid}/status")
    if not status.exists():
        pytest.skip("the peak of a process's memory is only known on Linux")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


async def result_digest(connection: ClientConnection) -> tuple[int, int]:
    """Receive an answer, and return the length and the checksum of its result's text."""
    length, checksum, held = 0, 0, b""
    async for frame in connection.recv_streaming(decode=False):
        held += frame
        if not length:
            held = held.partition(b'"result":"')[2]
        checksum, length, held = zlib.crc32(held[:-2], checksum), length + len(held[:-2]), held[-2:]
    assert held == b'"}'
    return length, checksum


def digest(texts: Iterator[str]) -> tuple[int, int]:
    length, checksum = 0, 0
    for text in texts:
        encoded = text.encode()
        checksum, length = zlib.crc32(encoded, checksum), length + len(encoded)
    return length, checksum


def expected_text() -> Iterator[str]:
    reader = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in text_chunks():
        yield json.dumps(reader.decode(chunk), ensure_ascii=False)[1:-1]
    yield reader.decode(b"", final=True)


def expected_base64() -> Iterator[str]:
    data = b"".join(itertools.islice(text_chunks(), 3))  # a multiple of three bytes
    whole, rest = divmod(SIZE, len(data))
    encoded = base64.b64encode(data).decode()
    return itertools.chain(itertools.repeat(encoded, whole), [base64.b64encode(data[:rest]).decode()])


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_large_body_is_never_held_as_a_whole_and_others_are_answered_meanwhile(coding: str) -> None:
    async def ask(recording: Recorder, encoding: str) -> tuple[int, int]:
        options: dict[str, Any] = {"proxy": None, "compression": None, "max_size": None}
        async with connect(recording.url, **options) as connection, connect(recording.url, **options) as bystander:
            await connection.send(body_request(encoding))
            answer = asyncio.create_task(result_digest(connection))
            count = 0
            while not answer.done():
                await bystander.send('{"jsonrpc":"2.0","id":2,"method":"sessions/list"}')
                await bystander.recv()
                count += 1
            assert count > 3
            return answer.result()

    with recorder() as recording:
        chunks = gzip_chunks() if coding == "gzip" else text_chunks()
        recording.tell([*started(ENTRY)])
        recording.tell(answered(ENTRY, filter(None, chunks), Content_Encoding=coding))
        assert asyncio.run(ask(recording, "text")) == digest(expected_text())
        assert asyncio.run(ask(recording, "base64")) == digest(expected_base64())
        assert peak(recording) < SIZE


# Ids


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
def test_ids_are_one_array_however_many_pages_they_are_read_in(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpc.store.IDS_PER_PAGE", 3)
    store = SqliteStore(tmp_path / "entries.db")
    store.open_session(SESSION, "session", 0.0)
    ids = [f"{number:026}" for number in range(count)]
    for entry_id in ids:
        store.put_entry(SESSION, StoredEntry(entry_id, b"{}", 0, 0, None))
    params = {"sessionId": SESSION}
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "sessions/get_entry_ids", "params": params})

    async def ask() -> str:
        answer = await Dispatcher(Methods(store, None).all()).answer(request)
        assert answer is not None
        return answer if isinstance(answer, str) else "".join([piece async for piece in answer])

    assert json.loads(asyncio.run(ask()))["result"] == ids
    store.close()
