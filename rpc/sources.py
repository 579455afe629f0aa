"""Where the command line gets entries from: a store, a capture, or the endpoint of a running instance.

All of them are asked in the same way. What is unknown or not kept is null.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from rpc import runfile
from rpc.bodies import plain
from rpc.captures import read_capture
from rpc.methods import body_of
from rpc.records import Side
from rpc.store import BodyChangedError, SqliteStore, StoreError
from rpc.store_format import MAGIC

type Json = dict[str, Any]

CONFDIR = Path("~/.mitmproxy")
"""Where mitmproxy keeps its configuration, and running instances say where they are."""

SCHEMES = ("ws://", "wss://")


class SourceError(Exception):
    """The source cannot be used; the sentence is for the user."""


class Session(NamedTuple):
    """A session: its id, its name, and how many entries it has."""

    id: str
    name: str
    entries: int


class Source(Protocol):
    """What can be asked for sessions and entries. Methods that take an id return null if there is no such thing."""

    def sessions(self) -> list[Session]:
        """Return every session, the oldest first."""
        ...

    def entry_ids(self, session_id: str) -> Iterator[str]:
        """Yield the ids of a session's entries in order of creation; none of a session that is unknown."""
        ...

    def entry(self, session_id: str, entry_id: str) -> Json | None:
        """Return an entry."""
        ...

    def body(self, session_id: str, entry_id: str, side: Side) -> bytes | None:
        """Return a body with its content encoding undone."""
        ...

    def messages(self, session_id: str, entry_id: str) -> list[Json] | None:
        """Return the WebSocket messages of an entry so far."""
        ...


class StoredSource:
    """A `Source` that is a store on this machine."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def sessions(self) -> list[Session]:
        """Return every session, the oldest first."""
        return [Session(id_, name, self._count(id_)) for id_, name in self._store.sessions()]

    def _count(self, session_id: str) -> int:
        status = self._store.status(session_id)
        return 0 if status is None else status.entries

    def entry_ids(self, session_id: str) -> Iterator[str]:
        """Yield the ids of a session's entries in order of creation."""
        return itertools.chain.from_iterable(self._store.entry_ids(session_id) or ())

    def entry(self, session_id: str, entry_id: str) -> Json | None:
        """Return an entry."""
        found = self._store.entry_json(session_id, entry_id)
        return None if found is None else msgspec.json.decode(found)

    def body(self, session_id: str, entry_id: str, side: Side) -> bytes | None:
        """Return a body with its content encoding undone."""
        stored = self._store.body(session_id, entry_id, side)
        body = None if stored is None else body_of(stored, side)
        try:
            return None if body is None else plain(body)
        except BodyChangedError:  # given up just now
            return None

    def messages(self, session_id: str, entry_id: str) -> list[Json] | None:
        """Return the WebSocket messages of an entry so far."""
        pieces = self._store.messages(session_id, entry_id)
        try:
            return None if pieces is None else msgspec.json.decode(b"[%b]" % b"".join(pieces))
        except BodyChangedError:
            return None


class RemoteSource:
    """A `Source` that is an endpoint."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def _call(self, method: str, **params: str) -> Any:
        request = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        try:
            self._socket.send(json.dumps(request))
            answer = msgspec.json.decode(self._socket.recv())
        except ConnectionClosed as error:
            message = "The endpoint has closed the connection."
            raise SourceError(message) from error
        if "error" in answer:
            message = f"The endpoint has answered {method} with an error: {answer['error']['message']}."
            raise SourceError(message)
        return answer["result"]

    def sessions(self) -> list[Session]:
        """Return every session, the oldest first."""
        listed = self._call("sessions/list")
        counts = [self._call("sessions/get_status", sessionId=session["id"])["entries"] for session in listed]
        return [Session(session["id"], session["name"], count) for session, count in zip(listed, counts, strict=True)]

    def entry_ids(self, session_id: str) -> Iterator[str]:
        """Yield the ids of a session's entries in order of creation."""
        return iter(self._call("sessions/get_entry_ids", sessionId=session_id) or ())

    def entry(self, session_id: str, entry_id: str) -> Json | None:
        """Return an entry."""
        entry: Json | None = self._call("sessions/get_entry", sessionId=session_id, entryId=entry_id)
        return entry

    def body(self, session_id: str, entry_id: str, side: Side) -> bytes | None:
        """Return a body with its content encoding undone."""
        method = f"sessions/get_{side}_body"
        body = self._call(method, sessionId=session_id, entryId=entry_id, encoding="base64")
        return None if body is None else base64.b64decode(body)

    def messages(self, session_id: str, entry_id: str) -> list[Json] | None:
        """Return the WebSocket messages of an entry so far."""
        messages: list[Json] | None = self._call(
            "sessions/get_websocket_messages", sessionId=session_id, entryId=entry_id
        )
        return messages


@contextmanager
def opened_store(path: Path) -> Iterator[SqliteStore]:
    """Open a store, or a capture read into one. Raises `SourceError`, `CaptureError`, `StoreError`."""
    if _is_store(path):
        with closing(SqliteStore(path)) as store:
            yield store
    else:
        with read_capture(path) as made, closing(SqliteStore(made, durable=False)) as store:
            yield store


def _is_store(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        message = f"The file {path} cannot be read: {error.strerror}."
        raise SourceError(message) from error


@contextmanager
def opened(said: str | None) -> Iterator[Source]:
    """Open what the user named: a file, the URL of an endpoint, or, with null, the instance that was started last.

    Raises what `opened_store` does.
    """
    if said is None:
        said = _running()
    if said.startswith(SCHEMES):
        with _connected(said) as socket:
            yield RemoteSource(socket)
    else:
        with opened_store(Path(said).expanduser()) as store:
            yield StoredSource(store)


def _running() -> str:
    """Return the URL of the running instance that was started last."""
    runs = runfile.running(CONFDIR.expanduser())
    if not runs:
        message = "No mitmdump with the addon is running: name a store, a capture, or the URL of an endpoint."
        raise SourceError(message)
    return f"{runs[0].run.url}?token={runs[0].run.token}"


@contextmanager
def _connected(url: str) -> Iterator[ClientConnection]:
    try:
        socket = connect(url, max_size=None, compression=None, proxy=None)
    except (OSError, ValueError, InvalidURI, InvalidHandshake) as error:
        message = f"The endpoint {url.partition('?')[0]} cannot be reached: {error}."
        raise SourceError(message) from error
    with socket:
        yield socket


def session_of(source: Source, entry_id: str) -> str | None:
    """Return the session that has an entry; null if none has."""
    ids = (session.id for session in source.sessions())
    return next((session_id for session_id in ids if source.entry(session_id, entry_id) is not None), None)


__all__ = ["Session", "Source", "SourceError", "StoreError", "opened", "opened_store", "session_of"]
