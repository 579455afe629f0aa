"""Subscriptions: who is told of what, as it happens, after what was missed.

What is told has been stored before: a process that dies takes nothing back that a client was told. Who comes back asks
for what has come and changed since the last entry it knows, and reads that from the store, page by page; once there is
no more of it, what happens is told as it is written. So each entry is announced exactly once to each subscription.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import NamedTuple, get_args

import msgspec

from rpc.jsonrpc import Method, TooMuch, json_string
from rpc.outlet import Outlet
from rpc.recording import Changes, Message, Recording, Written
from rpc.schema import EventName, SubscribeParams, UnsubscribeParams
from rpc.store import Store, StoreError
from rpc.summary_table import Position

logger = logging.getLogger(__name__)

MAX_SUBSCRIPTIONS = 64
"""Subscriptions that one client may have."""

MAX_HELD = 4 * 1024 * 1024
"""Characters of messages and pieces of bodies that are held while a subscription catches up."""

ROWS_PER_PAGE = 200
"""Entries that are read from the store at once: about 2 ms."""

MAX_NUMBER = 2**63 - 1
"""The largest number that the store knows."""

DRAIN_SECONDS = 1.0
"""How long the end waits for clients to take what they have been told."""

SESSIONS_SECONDS = 0.5
"""How often to look for sessions that other processes have begun or ended in the same store."""

EVENTS: frozenset[EventName] = frozenset(get_args(EventName.__value__))
USUAL_EVENTS = EVENTS - {"body_chunk"}

NAMES = {
    Changes.REQUEST: "request",
    Changes.RESPONSE: "response",
    Changes.BODY: "body",
    Changes.PROCESS: "process",
    Changes.FINISHED: "finished",
}
"""The contract's names of what has changed."""


class _Status(msgspec.Struct):
    id: str
    statusCode: int | None  # noqa: N815 - its name in the stored JSON
    isFinished: bool  # noqa: N815


_decode_status = msgspec.json.Decoder(_Status).decode


class Event(NamedTuple):
    """Something to be told: the JSON members of its parameters, without those that name subscription and session."""

    name: EventName
    members: str
    entry: str | None = None
    """The entry that is added, if one is."""


def added(summary: bytes, entry_id: str) -> Event:
    """Return the event of an entry's beginning."""
    return Event("entry_added", f'"entry":{summary.decode()}', entry_id)


def updated(summary: bytes, changes: Iterable[str]) -> Event:
    """Return the event of an entry's change."""
    listed = ",".join(f'"{change}"' for change in changes)
    return Event("entry_updated", f'"entry":{summary.decode()},"changes":[{listed}]')


def message_added(message: Message) -> Event:
    """Return the event of a complete message. One of several rows is too long to be told."""
    json = message.json.decode() if message.begins == message.row else "null"
    members = f'"entryId":"{message.entry}","index":{message.place},"message":{json}'
    return Event("websocket_message_added", members)


def body_chunk(piece: tuple[str, str, int, bytes]) -> Event:
    """Return the event of bytes that have arrived."""
    entry, side, offset, data = piece
    base64 = binascii.b2a_base64(data, newline=False).decode()
    return Event("body_chunk", f'"entryId":"{entry}","side":"{side}","offset":{offset},"data":"{base64}"')


def events_of(written: Written, wanted: frozenset[EventName]) -> Iterator[Event]:
    """Yield what has been written as events, if they are wanted: what is new, then what came, then what has changed.

    So an entry's first event is that it was added, and its last that it has finished, also if both come at once.
    """
    for entry_id, summary, changes in written.entries:
        if changes & Changes.ADDED:
            yield added(summary.json, entry_id)
    if "body_chunk" in wanted:
        yield from map(body_chunk, written.pieces)
    if "websocket_message_added" in wanted:
        yield from (message_added(message) for message in written.messages if message.ends)
    for _, summary, changes in written.entries:
        names = [name for change, name in NAMES.items() if change & changes]
        if names and (not changes & Changes.ADDED or changes & Changes.FINISHED):
            yield updated(summary.json, names)


class Subscription:
    """One client's wish to be told of events. While it catches up, it reads the store instead of what is written."""

    def __init__(self, identity: str, outlet: Outlet, events: frozenset[EventName], session: str, last: str) -> None:
        self.id = identity
        self.session = session
        self.events = events
        self.is_for_all_sessions = False
        self.is_over = False
        self._outlet = outlet
        self._last = last
        self._held: list[str] | None = None
        self._held_size = 0
        self._missed = 0

    def tell(self, event: Event) -> None:
        """Tell an event of the session, unless it is not wanted."""
        if event.entry is not None and self._missed == 0:
            self._last = event.entry
        if event.name in self.events and not self.is_over:
            self._put(event.name, f'"sessionId":"{self.session}",{event.members}')

    def tell_live(self, event: Event) -> None:
        """Tell what has just been written, unless it is read from the store later."""
        if self._held is None:
            self.tell(event)
        elif not event.name.startswith("entry_") and event.name in self.events:
            self._hold(self._text(event.name, f'"sessionId":"{self.session}",{event.members}'))

    def tell_session(self, name: EventName, session_id: str, session_name: str) -> None:
        """Tell that a session has begun or ended."""
        if name in self.events and not self.is_over:
            self._put(name, f'"session":{{"id":"{session_id}","name":{json_string(session_name)}}}')

    def hold(self) -> None:
        """Hold what happens back: it is read from the store."""
        self._held = []

    async def catch_up(self, store: Store, after: Position) -> None:
        """Tell what has come and changed since a point, and from then on, after `hold`, what happens."""
        number, changes = after.number, _all_of(after.revision)
        while page := self._changes(store, number, changes):
            changes = page
            await self._sent()
        if (now := store.position(self.session)) is not None:
            changes = _all_of(now.revision)
        while not self.is_over:
            if last := self._additions(store, number):
                number = last
            elif page := self._changes(store, number, changes):
                changes = page
            else:
                # Nothing is written between this look and the next event.
                self._go_live()
                return
            await self._sent()

    def _additions(self, store: Store, number: int) -> int | None:
        """Tell a page of the entries beyond a number; return the last one's, null if there are none."""
        rows = store.summaries(self.session, number, ROWS_PER_PAGE)
        for row in rows:
            json, status = row.summary.json, _decode_status(row.summary.json)
            self.tell(added(json, status.id))
            if status.isFinished:
                self.tell(updated(json, _all_changes(json)))
        return rows[-1].number if rows else None

    def _changes(self, store: Store, number: int, after: Position) -> Position | None:
        """Tell a page of the changes of entries up to a number; return the last one's place, null if there are none."""
        rows = store.changes(self.session, number, after, ROWS_PER_PAGE)
        for row in rows:
            self.tell(updated(row.json, _all_changes(row.json)))
        return Position(rows[-1].number, rows[-1].revision) if rows and not self.is_over else None

    async def _sent(self) -> None:
        """Wait until what was told has been taken, so that catching up takes no memory."""
        await self._outlet.emptied()
        await asyncio.sleep(0)

    def _go_live(self) -> None:
        held, self._held = self._held or [], None
        for text in held:
            self._put_text(text)

    def _hold(self, text: str) -> None:
        assert self._held is not None
        if self._held_size + len(text) > MAX_HELD:
            self.miss()
        else:
            self._held.append(text)
            self._held_size += len(text)

    def _put(self, name: str, members: str) -> None:
        self._put_text(self._text(name, members))

    def _text(self, name: str, members: str) -> str:
        params = f'{{"subscriptionId":"{self.id}",{members}}}'
        return f'{{"jsonrpc":"2.0","method":"sessions/{name}","params":{params}}}'

    def _put_text(self, text: str) -> None:
        if self._missed or not self._outlet.put(text):
            self.miss()

    def miss(self) -> None:
        """Count what cannot be told; when the client has read what waits, it is told so, and that is the end."""
        self._missed += 1
        if self._missed == 1:
            self._outlet.when_empty(self._end_lagging)

    def _end_lagging(self) -> None:
        if not self.is_over:
            self.is_over = True
            members = f'"sessionId":"{self.session}","after":"{self._last}","missed":{self._missed}'
            self._outlet.put(self._text("lagged", members))


def _all_of(revision: int) -> Position:
    """Return the point at which everything of a revision is known."""
    return Position(MAX_NUMBER, revision)


def _all_changes(summary: bytes) -> list[str]:
    """Return everything that can have changed of an entry, as it is now."""
    status = _decode_status(summary)
    response = ["response"] if status.statusCode is not None else []
    return ["request", *response, "body", *(["process", "finished"] if status.isFinished else [])]


class Subscriptions:
    """Every subscription of an endpoint, over a store and the session that is being captured, if there is one."""

    def __init__(self, store: Store, recording: Recording | None) -> None:
        self._store = store
        self._recording = recording
        self._ids = count(1)
        self._of: dict[Outlet, dict[str, Subscription]] = {}
        self._sessions = self._look_for_sessions()
        self._watching: asyncio.Task[None] | None = None
        self._catching_up: set[asyncio.Task[None]] = set()
        if recording is not None:
            recording.on_written = self.take_in

    def methods(self) -> list[Method]:
        """Return the methods."""
        return [
            Method("sessions/subscribe", SubscribeParams, self.subscribe, needs_caller=True),
            Method("sessions/unsubscribe", UnsubscribeParams, self.unsubscribe, needs_caller=True),
        ]

    @property
    def are_any(self) -> bool:
        """Whether somebody has subscribed."""
        return bool(self._of)

    def subscribe(self, params: SubscribeParams, outlet: Outlet) -> str:
        """Begin to tell; return the subscription's id, or null if the session, or `after`, is not known."""
        if len(self._of.get(outlet, ())) >= MAX_SUBSCRIPTIONS:
            raise TooMuch
        if self._recording is not None:
            self._recording.flush()
        session = params.session_id or self._own_session()
        after = None if params.after is None else self._store.position(session, params.after)
        if (params.session_id and self._store.position(session) is None) or (params.after and after is None):
            return "null"
        last = params.after or self._store.last_entry_id(session) or session
        events = USUAL_EVENTS if params.events is None else frozenset(params.events)
        subscription = Subscription(f"{next(self._ids)}", outlet, events, session, last)
        subscription.is_for_all_sessions = params.session_id is None
        self._add(outlet, subscription)
        if after is not None:
            self._begin_to_catch_up(subscription, after)
        outlet.hold()  # the client has to know the subscription's id first
        return f'"{subscription.id}"'

    def unsubscribe(self, params: UnsubscribeParams, outlet: Outlet) -> str:
        """End a subscription; return true, or null if there is none. What has been told already may still come."""
        if (subscription := self._of.get(outlet, {}).pop(params.subscription_id, None)) is None:
            return "null"
        subscription.is_over = True
        if not self._of[outlet]:
            del self._of[outlet]
        return "true"

    def take_in(self, written: Written) -> None:
        """Tell what has been written of the session that is being captured."""
        if not self._of or self._recording is None:
            return
        subscriptions = [one for one in self._all() if one.session == self._recording.session_id]
        wanted = frozenset[EventName]().union(*(one.events for one in subscriptions))
        for event in events_of(written, wanted):
            for subscription in subscriptions:
                subscription.tell_live(event)

    async def close(self) -> None:
        """Tell which sessions have ended, and give clients a moment to take what waits for them."""
        self.look_at_sessions()
        waiting = [asyncio.create_task(outlet.emptied()) for outlet in self._of]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
        for task in (*self._catching_up, *([self._watching] if self._watching else [])):
            task.cancel()

    def look_at_sessions(self) -> None:
        """Tell which sessions have begun and ended since the last look."""
        before, self._sessions = self._sessions, self._look_for_sessions()
        for session_id, (name, is_open) in self._sessions.items():
            if session_id not in before:
                self._tell_session("opened", session_id, name)
            if not is_open and before.get(session_id, (name, True))[1]:
                self._tell_session("closed", session_id, name)

    def _tell_session(self, event: EventName, session_id: str, name: str) -> None:
        for subscription in self._all():
            if subscription.is_for_all_sessions or subscription.session == session_id:
                subscription.tell_session(event, session_id, name)

    def _look_for_sessions(self) -> dict[str, tuple[str, bool]]:
        """Return the name of every session, and whether it has not ended."""
        unended = {session_id for session_id, _ in self._store.unended_sessions()}
        return {session_id: (name, session_id in unended) for session_id, name in self._store.sessions()}

    async def _watch_sessions(self) -> None:
        while self._of:
            await asyncio.sleep(SESSIONS_SECONDS)
            with suppress(StoreError):
                self.look_at_sessions()

    def _own_session(self) -> str:
        """Return the session that is being captured, else the newest one; empty if there is none."""
        if self._recording is not None:
            return self._recording.session_id
        return self._store.sessions()[-1][0] if self._store.sessions() else ""

    def _all(self) -> list[Subscription]:
        return [one for subscriptions in self._of.values() for one in subscriptions.values() if not one.is_over]

    def _add(self, outlet: Outlet, subscription: Subscription) -> None:
        if outlet not in self._of:
            self._of[outlet] = {}
            outlet.on_close.append(partial(self._forget, outlet))
        self._of[outlet][subscription.id] = subscription
        if self._watching is None or self._watching.done():
            self._sessions = self._look_for_sessions()
            self._watching = asyncio.create_task(self._watch_sessions())

    def _forget(self, outlet: Outlet) -> None:
        for subscription in self._of.pop(outlet, {}).values():
            subscription.is_over = True

    def _begin_to_catch_up(self, subscription: Subscription, after: Position) -> None:
        subscription.hold()
        task = asyncio.create_task(self._catch_up(subscription, after))
        self._catching_up.add(task)
        task.add_done_callback(self._catching_up.discard)

    async def _catch_up(self, subscription: Subscription, after: Position) -> None:
        try:
            await subscription.catch_up(self._store, after)
        except Exception:
            logger.exception("A client could not be told what it had missed")
            subscription.miss()
