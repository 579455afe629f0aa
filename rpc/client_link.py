"""The Python client's connection: requests and their answers, notifications by subscription, and what goes wrong.

What the results mean is the client's business. Only one task reads; whoever waits for an answer gets it, or the reason
why there will be none.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

MAX_QUEUED = 10_000
"""Notifications that wait for a slow consumer; then it is told that it lags, as the endpoint does it."""

LAGGED = "sessions/lagged"
UNAUTHORIZED = 401


class EntriesError(Exception):
    """Something went wrong; the text says what to do."""


class NotRunningError(EntriesError):
    """There is no running instance to connect to."""


class DisconnectedError(EntriesError):
    """The connection is gone and could not be made again."""


class NotFoundError(EntriesError):
    """There is no such session, entry or WebSocket."""


class RequestError(EntriesError):
    """The endpoint has refused a request: `code` is JSON-RPC's, `data` says which parameter is wrong and why."""

    def __init__(self, method: str, code: int, message: str, data: object) -> None:
        super().__init__(method, code, message, data)
        self.method = method
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        problems = [f"{one['parameter']} {one['reason']}" for one in self.data] if isinstance(self.data, list) else []
        return f"{self.method}: {'; '.join(problems) or self.message} ({self.code})"


class Endpoint(NamedTuple):
    """Where to connect, the token, and the session that is captured there, if that is known."""

    url: str
    token: str
    session_id: str | None = None


class Notification(NamedTuple):
    """A notification: its method and the JSON of its parameters."""

    method: str
    params: bytes


class _Error(msgspec.Struct):
    code: int
    message: str
    data: object = None


class _Message(msgspec.Struct):
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")


class _SubscriptionId(msgspec.Struct):
    subscriptionId: str  # noqa: N815 - its name on the wire


_decode = msgspec.json.Decoder(_Message).decode
_decode_id = msgspec.json.Decoder(_SubscriptionId).decode
_encode = msgspec.json.encode


def endpoint_of(url: str) -> Endpoint:
    """Return what a URL with a token in its query says. Raises `EntriesError`."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    token = dict(query).get("token")
    if parts.scheme not in {"ws", "wss"} or not token:
        message = f"{url!r} is no URL of an endpoint: pass the one that mitmdump has printed, ws://…/?token=…"
        raise EntriesError(message)
    rest = urlencode([pair for pair in query if pair[0] != "token"])
    return Endpoint(urlunsplit(parts._replace(query=rest)), token)


async def socket_of(endpoint: Endpoint, tls: ssl.SSLContext | None) -> ClientConnection:
    """Return an open WebSocket. Raises `DisconnectedError`, or `EntriesError` if the endpoint lets nobody in."""
    try:
        return await open_socket(
            endpoint.url,
            additional_headers={"Authorization": f"Bearer {endpoint.token}"},
            max_size=None,
            compression=None,
            proxy=None,
            ssl=tls,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        if status == UNAUTHORIZED:
            message = f"The endpoint {endpoint.url} takes another token: pass the URL that mitmdump has printed."
            raise EntriesError(message) from error
        message = f"The endpoint {endpoint.url} lets nobody in now: HTTP status {status}."
        raise DisconnectedError(message) from error
    except (OSError, ValueError, InvalidURI, InvalidHandshake) as error:
        message = f"The endpoint {endpoint.url} cannot be reached: {error}. Does mitmdump run?"
        raise DisconnectedError(message) from error


class Subscription:
    """Notifications that have come for one subscription, in order. After a `sessions/lagged` there are no more."""

    def __init__(self, identity: str) -> None:
        self.id = identity
        self._queue: asyncio.Queue[Notification | EntriesError] = asyncio.Queue()
        self.has_overflown = False

    def add(self, notification: Notification) -> None:
        """Take in a notification, unless too many wait."""
        if self._queue.qsize() >= MAX_QUEUED:
            self.has_overflown = True
        elif not self.has_overflown:
            self._queue.put_nowait(notification)

    def end(self, error: EntriesError) -> None:
        """Take in that nothing more will come."""
        self._queue.put_nowait(error)

    async def next(self) -> Notification | None:
        """Return the next notification; null once some were left out. Raises `DisconnectedError`."""
        if self.has_overflown and self._queue.empty():
            return None
        got = await self._queue.get()
        if isinstance(got, EntriesError):
            raise got
        return got


class Link:
    """One open connection. Make it with `linked`."""

    def __init__(self, socket: ClientConnection, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.session_id = endpoint.session_id
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[_Message]] = {}
        self._subscribing: dict[int, Callable[[str], None]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._gone: DisconnectedError | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._gone is None

    async def call(self, method: str, **params: object) -> bytes:
        """Return the JSON of a method's result. Raises `RequestError`, `DisconnectedError`."""
        return await self._call(next(self._ids), method, params)

    async def subscribe(self, **params: object) -> Subscription | None:
        """Subscribe; null if the session, or the entry to begin after, is not known."""
        made: list[Subscription] = []

        def begin(identity: str) -> None:
            # At once: the next message may be for it.
            made.append(Subscription(identity))
            self._subscriptions[identity] = made[0]

        number = next(self._ids)
        self._subscribing[number] = begin
        try:
            await self._call(number, "sessions/subscribe", params)
        finally:
            self._subscribing.pop(number, None)
        return made[0] if made else None

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription, if the connection is still there."""
        self._subscriptions.pop(subscription.id, None)
        with suppress(EntriesError):
            await self.call("sessions/unsubscribe", subscriptionId=subscription.id)

    async def close(self) -> None:
        """Close the connection."""
        await self._socket.close()
        await self._reading

    async def _call(self, number: int, method: str, params: dict[str, object]) -> bytes:
        if self._gone is not None:
            raise self._gone
        self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(
                _encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}), text=True
            )
            answer = await self._answers[number]
        except ConnectionClosed as error:
            raise disconnected(self.endpoint, error) from error
        finally:
            self._answers.pop(number, None)
        if (refused := answer.error) is not None:
            raise RequestError(method, refused.code, refused.message, refused.data)
        return bytes(answer.result)

    async def _read(self) -> None:
        try:
            while True:
                self._take_in(_decode(await self._socket.recv()))
        except ConnectionClosed as error:
            self._gone = disconnected(self.endpoint, error)
        except msgspec.DecodeError as error:
            self._gone = DisconnectedError(f"The endpoint {self.endpoint.url} has sent what is no answer: {error}.")
            await self._socket.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._gone)
        for subscription in self._subscriptions.values():
            subscription.end(self._gone)

    def _take_in(self, message: _Message) -> None:
        if message.method is not None:
            params = bytes(message.params)
            if (subscription := self._subscriptions.get(_decode_id(params).subscriptionId)) is not None:
                subscription.add(Notification(message.method, params))
            return
        if message.id is None:
            return
        if (begin := self._subscribing.get(message.id)) is not None and bytes(message.result) != b"null":
            begin(msgspec.json.decode(message.result, type=str))
        answer = self._answers.get(message.id)
        if answer is not None and not answer.done():
            answer.set_result(message)


def disconnected(endpoint: Endpoint, error: ConnectionClosed) -> DisconnectedError:
    """Return what to raise when the connection is closed."""
    return DisconnectedError(f"The endpoint {endpoint.url} has closed the connection: {error}. Has mitmdump ended?")


@asynccontextmanager
async def subscribed(link: Link, **params: object) -> AsyncIterator[Subscription | None]:
    """Subscribe, and unsubscribe at the end."""
    subscription = await link.subscribe(**params)
    try:
        yield subscription
    finally:
        if subscription is not None and link.is_open:
            await link.unsubscribe(subscription)
