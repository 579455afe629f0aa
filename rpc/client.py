"""A client in Python, for asyncio: typed methods for everything, and entries and messages as they come.

    async with connect() as entries:
        async for entry in entries.follow():
            print(entry.request.method, entry.url)

It finds the running instance by itself, connects again when the connection is lost, and goes on where it was. What goes
wrong is an `EntriesError`, whose text says what to do.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self, cast

from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed

from rpc import runfile
from rpc.client_link import (
    LAGGED,
    DisconnectedError,
    Endpoint,
    EntriesError,
    Link,
    NotFoundError,
    Notification,
    NotRunningError,
    RequestError,
    disconnected,
    endpoint_of,
    socket_of,
    subscribed,
)
from rpc.schema import (
    BodyChunk,
    EntryAdded,
    EntryPage,
    EntrySummary,
    EntryUpdated,
    EventName,
    Lagged,
    Notice,
    Session,
    SessionClosed,
    SessionEntry,
    SessionOpened,
    SessionStatus,
    WebSocketMessage,
    WebSocketMessageAdded,
)

__all__ = [
    "CONFDIR",
    "Client",
    "DisconnectedError",
    "EntriesError",
    "NotFoundError",
    "NotRunningError",
    "RequestError",
    "connect",
]

CONFDIR = Path("~/.mitmproxy")
"""Where mitmproxy keeps its configuration, and running instances say where they are."""

RECONNECT_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""How long to wait before each attempt to connect again."""

PAGE = 1000
"""Summaries that are asked for at once."""

MAX_KNOWN = 10_000
"""Entries that are known to have finished, so that they are not told again."""

BODY_ANSWER = '"result":'
"""What comes before a body in the text of an answer."""

type Side = Literal["request", "response"]

NOTICES: dict[str, type[Notice]] = {
    "sessions/entry_added": EntryAdded,
    "sessions/entry_updated": EntryUpdated,
    "sessions/websocket_message_added": WebSocketMessageAdded,
    "sessions/body_chunk": BodyChunk,
    "sessions/opened": SessionOpened,
    "sessions/closed": SessionClosed,
    LAGGED: Lagged,
}


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def connect(
    url: str | None = None,
    *,
    confdir: Path | str = CONFDIR,
    tls: ssl.SSLContext | None = None,
    session_id: str | None = None,
) -> Client:
    """Return a client, to be used with `async with`.

    `url` is what mitmdump has printed, token and all; without, the running instance that was started last is found,
    through mitmproxy's configuration folder. `tls` is for endpoints with a certificate that is not publicly trusted.
    `session_id` is the session that methods are about if they are not told otherwise: by default the one that is
    captured, or else the newest.
    """
    return Client(url, confdir=Path(confdir).expanduser(), tls=tls, session_id=session_id)


class Client:
    """A connected client. Methods raise `EntriesError`: see `connect`, which makes one."""

    def __init__(self, url: str | None, *, confdir: Path, tls: ssl.SSLContext | None, session_id: str | None) -> None:
        self._url = url
        self._confdir = confdir
        self._tls = tls
        self._said_session = session_id
        self._link: Link | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect. Raises `NotRunningError`, `DisconnectedError`."""
        self._link = await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        if self._link is not None:
            await self._link.close()

    # What there is

    async def sessions(self) -> list[Session]:
        """Return every session, the oldest first."""
        return cast(list[Session], await self._call(list[Session], "sessions/list"))

    async def session(self) -> str:
        """Return the id of the session that methods are about if they are not told otherwise."""
        if self._said_session is not None:
            return self._said_session
        link = await self._linked()
        if link.session_id is None:
            if not (sessions := await self.sessions()):
                raise NotFoundError("There is no session yet.")
            link.session_id = sessions[-1].id
        return link.session_id

    async def status(self, session_id: str | None = None) -> SessionStatus:
        """Return what is stored of a session, and what is not."""
        return await self._found(SessionStatus, "sessions/get_status", session_id)

    async def listener_port(self, session_id: str | None = None) -> int | None:
        """Return the port that the proxy listens on; null for a session that is not being captured."""
        session = session_id or await self.session()
        return cast(int | None, await self._call(int | None, "sessions/get_listener_port", sessionId=session))

    async def entry_ids(self, session_id: str | None = None) -> list[str]:
        """Return the ids of a session's entries, in order of creation."""
        return await self._found(list[str], "sessions/get_entry_ids", session_id)

    async def query(
        self,
        filter: str | None = None,  # noqa: A002 - its name in the API
        *,
        session_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
        order: Literal["oldest", "newest"] = "oldest",
        entry_ids: Iterable[str] | None = None,
    ) -> EntryPage:
        """Return a page of summaries of entries that fit an expression of mitmproxy's filter language."""
        params = {
            "filter": filter,
            "after": after,
            "limit": limit,
            "order": order,
            "entryIds": None if entry_ids is None else list(entry_ids),
        }
        return await self._found(EntryPage, "sessions/query", session_id, **params)

    async def summaries(
        self,
        filter: str | None = None,  # noqa: A002 - its name in the API
        *,
        session_id: str | None = None,
        order: Literal["oldest", "newest"] = "oldest",
    ) -> AsyncGenerator[EntrySummary]:
        """Yield the summary of every entry that fits, page after page."""
        after: str | None = None
        session = session_id or await self.session()
        while True:
            page = await self.query(filter, session_id=session, after=after, limit=PAGE, order=order)
            for summary in page.entries:
                yield summary
            if (after := page.next) is None:
                return

    async def entry(self, entry_id: str, session_id: str | None = None) -> SessionEntry:
        """Return an entry as it is now. Raises `NotFoundError`."""
        return await self._found(SessionEntry, "sessions/get_entry", session_id, entryId=entry_id)

    async def messages(self, entry_id: str, session_id: str | None = None) -> list[WebSocketMessage]:
        """Return the messages of a WebSocket so far. Raises `NotFoundError`, also if the entry is no WebSocket."""
        return await self._found(
            list[WebSocketMessage], "sessions/get_websocket_messages", session_id, entryId=entry_id
        )

    async def discover(self) -> dict[str, Any]:
        """Return the description of the API, an OpenRPC document."""
        return cast(dict[str, Any], await self._call(dict[str, Any], "rpc.discover"))

    # Bodies

    async def request_body(self, entry_id: str, session_id: str | None = None) -> bytes | None:
        """Return the body of a request, its content encoding undone; null if it is not kept."""
        return await self._bytes("request", entry_id, session_id)

    async def response_body(self, entry_id: str, session_id: str | None = None) -> bytes | None:
        """Return the body of a response, its content encoding undone; null if it is not kept or has not begun."""
        return await self._bytes("response", entry_id, session_id)

    async def request_text(self, entry_id: str, session_id: str | None = None) -> str | None:
        """Return the body of a request as text, in the charset that it says; null as in `request_body`."""
        return await self._body("request", entry_id, session_id, "text")

    async def response_text(self, entry_id: str, session_id: str | None = None) -> str | None:
        """Return the body of a response as text, in the charset that it says; null as in `response_body`."""
        return await self._body("response", entry_id, session_id, "text")

    async def save_body(
        self, path: Path | str, entry_id: str, side: Side = "response", session_id: str | None = None
    ) -> int | None:
        """Write a body to a file, in memory that does not depend on its size; return its size in bytes.

        Null, and no file, if the body is not kept. It has a connection of its own.
        """
        session = session_id or await self.session()
        params = {"sessionId": session, "entryId": entry_id, "encoding": "base64"}
        endpoint = (await self._linked()).endpoint
        socket = await socket_of(endpoint, self._tls)
        try:
            request = {"jsonrpc": "2.0", "id": 1, "method": f"sessions/get_{side}_body", "params": params}
            await socket.send(_adapter(dict[str, Any]).dump_json(request), text=True)
            async with aclosing(cast(Any, socket.recv_streaming())) as pieces:
                return await _save(pieces, Path(path))
        except ConnectionClosed as closed:
            raise disconnected(endpoint, closed) from closed
        finally:
            await socket.close()

    async def _bytes(self, side: Side, entry_id: str, session_id: str | None) -> bytes | None:
        body = await self._body(side, entry_id, session_id, "base64")
        return None if body is None else base64.b64decode(body)

    async def _body(
        self, side: Side, entry_id: str, session_id: str | None, encoding: Literal["text", "base64"]
    ) -> str | None:
        session = session_id or await self.session()
        params = {"sessionId": session, "entryId": entry_id, "encoding": encoding}
        return cast(str | None, await self._call(str | None, f"sessions/get_{side}_body", **params))

    # As it happens

    async def follow(
        self,
        filter: str | None = None,  # noqa: A002 - its name in the API
        *,
        session_id: str | None = None,
        after: str | None = None,
    ) -> AsyncGenerator[SessionEntry]:
        """Yield each entry, once it has finished, for as long as there is somebody to tell of it.

        With `after`, an entry's id or the session's, first those that came after it. None is missed or told twice, also
        if the connection is lost meanwhile.
        """
        async with aclosing(self._finished(filter, session_id, after, 0)) as summaries:
            async for session, summary in summaries:
                yield await self.entry(summary.id, session)

    async def follow_summaries(
        self,
        filter: str | None = None,  # noqa: A002 - its name in the API
        *,
        session_id: str | None = None,
        after: str | None = None,
        last: int = 0,
    ) -> AsyncGenerator[EntrySummary]:
        """Yield what `follow` does, as summaries; before that, those of so many of the `last` entries that fit."""
        async with aclosing(self._finished(filter, session_id, after, last)) as summaries:
            async for _, summary in summaries:
                yield summary

    async def _finished(
        self, expression: str | None, session_id: str | None, after: str | None, last: int
    ) -> AsyncGenerator[tuple[str, EntrySummary]]:
        """Yield session and summary of each entry that finishes.

        Those that began before are yielded too, unless it is said after which entry to begin. What has finished is told
        again when the connection was lost, so that it must be known for a while.
        """
        begun: set[str] = set()
        known: dict[str, None] = {}
        async with aclosing(self._told(["entry_added", "entry_updated"], session_id, after)) as notices:
            async for notice in notices:
                if notice is None and last:
                    session = session_id or await self.session()
                    for summary in await self._last_finished(expression, session, last):
                        known[summary.id] = None
                        yield session, summary
                    last = 0
                elif isinstance(notice, EntryAdded):
                    begun.add(notice.entry.id)
                elif isinstance(notice, EntryUpdated) and notice.entry.is_finished:
                    is_news = notice.entry.id in begun or (after is None and notice.entry.id not in known)
                    begun.discard(notice.entry.id)
                    _remember(known, notice.entry.id)
                    if is_news and (expression is None or await self._fits(notice, expression)):
                        yield notice.session_id, notice.entry

    async def _last_finished(self, expression: str | None, session_id: str, count: int) -> list[EntrySummary]:
        """Return so many of the last entries that fit, as far as they have finished, the oldest first."""
        page = await self.query(expression, session_id=session_id, limit=count, order="newest")
        return [summary for summary in reversed(page.entries) if summary.is_finished]

    async def _fits(self, notice: EntryUpdated, expression: str) -> bool:
        page = await self.query(expression, session_id=notice.session_id, entry_ids=[notice.entry.id])
        return bool(page.entries)

    async def follow_messages(self, entry_id: str, session_id: str | None = None) -> AsyncGenerator[WebSocketMessage]:
        """Yield each message of a WebSocket: those so far, then the others as they come, until it has ended.

        Raises `NotFoundError`, also if the entry is no WebSocket.
        """
        session = session_id or await self.session()
        told = 0
        events: list[EventName] = ["websocket_message_added", "entry_updated"]
        async with aclosing(self._told(events, session, None)) as notices:
            async for notice in notices:
                if not self._is_news(notice, entry_id):
                    continue
                if isinstance(notice, WebSocketMessageAdded) and notice.index == told and notice.message is not None:
                    told += 1
                    yield notice.message
                    continue
                # Asked before the messages are read: what comes in between is not the last.
                is_finished = not isinstance(notice, WebSocketMessageAdded) and await self._is_finished(
                    entry_id, session
                )
                for message in (await self.messages(entry_id, session))[told:]:
                    told += 1
                    yield message
                if is_finished:
                    return

    @staticmethod
    def _is_news(notice: Notice | None, entry_id: str) -> bool:
        if isinstance(notice, WebSocketMessageAdded):
            return notice.entry_id == entry_id
        return notice is None or (isinstance(notice, EntryUpdated) and notice.entry.id == entry_id)

    async def _is_finished(self, entry_id: str, session_id: str) -> bool:
        page = await self.query(session_id=session_id, entry_ids=[entry_id])
        return all(summary.is_finished for summary in page.entries)

    async def notices(
        self, events: Iterable[EventName] | None = None, *, session_id: str | None = None, after: str | None = None
    ) -> AsyncGenerator[Notice]:
        """Yield notifications as they come, as models; the events are named without `sessions/`.

        What was missed while the connection was lost, or because it was not taken fast enough, comes later: of entries
        what has been added and changed; messages and bytes of bodies are to be asked for.
        """
        async with aclosing(self._told(events, session_id, after)) as notices:
            async for notice in notices:
                if notice is not None:
                    yield notice

    async def _told(
        self, events: Iterable[EventName] | None, session: str | None, after: str | None
    ) -> AsyncGenerator[Notice | None]:
        """Yield notifications, and null each time that a subscription has begun."""
        session = session or self._said_session
        # Additions say where to go on.
        names = None if events is None else sorted({*events, "entry_added"})
        wanted = None if events is None else {f"sessions/{name}" for name in events}
        while True:
            link = await self._linked()
            with suppress(DisconnectedError):
                async with subscribed(link, sessionId=session, events=names, after=after) as subscription:
                    if subscription is None:
                        after = await self._beginning(link, session, after)
                        continue
                    after = after or await self._last(session)
                    yield None
                    while (got := await subscription.next()) is not None:
                        notice = _notice(got)
                        after = _after(notice) or after
                        if wanted is None or got.method in wanted:
                            yield notice

    async def _beginning(self, link: Link, session: str | None, after: str | None) -> str:
        """Return where to begin in another run's session, in which the last entry is not known."""
        if session is None and after is not None and after != (beginning := await self.session()) and link.is_open:
            return beginning
        message = f"There is no session {session}, or no entry {after} in it."
        raise NotFoundError(message)

    async def _last(self, session_id: str | None) -> str:
        """Return what to go on after if nothing comes: the last entry, or the session."""
        session = session_id or await self.session()
        page = await self.query(session_id=session, limit=1, order="newest")
        return page.entries[0].id if page.entries else session

    # The connection

    async def _found[Shape](self, shape: type[Shape], method: str, session_id: str | None, **params: object) -> Shape:
        """Return a method's result about a session. Raises `NotFoundError` if there is none."""
        session = session_id or await self.session()
        result = await self._call(shape | None, method, sessionId=session, **params)
        if result is None:
            message = f"There is no session {session}, or it has no such thing: {method} {params or ''}".rstrip()
            raise NotFoundError(message)
        return cast(Shape, result)

    async def _call(self, shape: Any, method: str, **params: object) -> Any:
        """Call a method, which only reads, so that it may be called again when the connection was lost."""
        for _ in RECONNECT_SECONDS:
            link = await self._linked()
            with suppress(DisconnectedError):
                return _adapter(shape).validate_json(await link.call(method, **params))
        message = "The endpoint closes the connection again and again."
        raise DisconnectedError(message)

    async def _linked(self) -> Link:
        """Return a connection that is open, a new one if need be. Raises `DisconnectedError`, `NotRunningError`."""
        async with self._connecting:
            if self._link is None or not self._link.is_open:
                self._link = await self._connect_again()
            return self._link

    async def _connect_again(self) -> Link:
        error: EntriesError | None = None
        for seconds in RECONNECT_SECONDS:
            await asyncio.sleep(seconds)
            try:
                return await self._connect()
            except (DisconnectedError, NotRunningError) as failed:
                error = failed
        assert error is not None
        raise error

    async def _connect(self) -> Link:
        endpoint = self._running() if self._url is None else endpoint_of(self._url)
        return Link(await socket_of(endpoint, self._tls), endpoint)

    def _running(self) -> Endpoint:
        """Return the endpoint of the running instance that was started last. Raises `NotRunningError`."""
        if not (runs := runfile.running(self._confdir)):
            message = (
                f"No mitmdump with the addon is running (none has left a run file in {self._confdir}): start one with"
                " `mitmdump -s addon/entries.py`, or pass the URL of an endpoint."
            )
            raise NotRunningError(message)
        run = runs[0].run
        return Endpoint(run.url, run.token, run.session_id)


def _after(notice: Notice) -> str | None:
    """Return what to go on after from here, if a notification says so."""
    if isinstance(notice, EntryAdded):
        return notice.entry.id
    return notice.after if isinstance(notice, Lagged) else None


def _remember(known: dict[str, None], entry_id: str) -> None:
    """Know one more entry, and the oldest no longer if they are many."""
    known[entry_id] = None
    if len(known) > MAX_KNOWN:
        del known[next(iter(known))]


def _notice(notification: Notification) -> Notice:
    return NOTICES[notification.method].model_validate_json(notification.params)


async def _save(pieces: AsyncIterator[str], path: Path) -> int | None:
    """Write the body in the pieces of an answer's text, as they come."""
    head = ""
    async for piece in pieces:
        head += piece
        if BODY_ANSWER in head and len(head.partition(BODY_ANSWER)[2]) >= len("null"):
            break
    start, _, rest = head.partition(BODY_ANSWER)
    if '"error"' in start or not rest.startswith('"'):
        return None
    try:
        with path.open("wb") as file:
            return await _write(file, rest[1:], pieces)
    except BaseException:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise


async def _write(file: BinaryIO, held: str, pieces: AsyncIterator[str]) -> int:
    """Write base64 until its end, a quotation mark; return how many bytes that were."""
    size = 0
    while True:
        data, end, _ = held.partition('"')
        usable = len(data) if end else len(data) - len(data) % 4
        size += file.write(base64.b64decode(data[:usable]))
        if end:
            return size
        held = data[usable:] + await anext(pieces)
