"""The WebSocket server: it lets in who has the token, and carries texts between clients and the dispatcher.

What the texts mean is the dispatcher's business. Each connection has its own task, which answers its requests one after
another; what it is sent unasked goes between two answers. A client that does not read stops its own tasks and nobody
else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
from collections.abc import AsyncGenerator
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from rpc.admission import Admission
from rpc.certificates import server_context
from rpc.connection import CLOSE_TIMEOUT, Connection
from rpc.crowd import Crowd
from rpc.door import Door
from rpc.jsonrpc import Dispatcher, Text
from rpc.outlet import Outlet
from rpc.records import Access, Limits
from rpc.shares import Counted
from rpc.turns import Turns

log = logging.getLogger(__name__)

MAX_FRAME = 2**18
"""Characters of an answer that go into one frame; a longer answer is sent in fragments (RFC 6455 section 5.4).

So a large answer takes the memory of few fragments, since it comes in pieces itself, other connections get their turn
between two fragments, and clients that bound the size of a frame can read it. Fragments four times as large take as
much time, and make others wait four times as long.
"""

REQUESTS_PER_TURN = 32
"""Pipelined requests that are answered before other connections get their turn, if they do not take long."""

ABORT_TIMEOUT = 1.0
"""Seconds that connections have to end after they were cut off because they did not close in time."""

PING_INTERVAL = 20.0
"""Seconds between pings, which find out connections whose other end is gone."""

PING_TIMEOUT = None
"""A late pong ends no connection. A pong comes behind everything that the client has yet to read and we have yet to
answer: a slow reader of a large answer, or of many, may need minutes for it and is not gone. Who really is gone leaves
the ping unacknowledged, and TCP's own timeout ends the connection.
"""

NOBODY_ELSE = Access()
"""Those with the token, in the clear, on this machine."""

USUAL = Limits()
"""The limits if nothing is said."""


def _silent_logger() -> logging.Logger:
    """Return a logger for the library that lets nothing through: at DEBUG it writes request lines, token and all."""
    logger = logging.getLogger(f"{__name__}.library")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    return logger


class Endpoint:
    """A listening server. Make one with `Endpoint.start`."""

    port: int
    """The port that it listens on; if the host has several addresses and port 0 was asked for, the first one's."""

    def __init__(self, server: Server, crowd: Crowd[Connection]) -> None:
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        self._crowd = crowd

    @classmethod
    async def start(
        cls,
        dispatcher: Dispatcher,
        *,
        host: str,
        port: int,
        token: str,
        access: Access = NOBODY_ELSE,
        limits: Limits = USUAL,
    ) -> Self:
        """Listen, and answer with the dispatcher those who come in at the door: it says what token and origins mean.

        Port 0 picks a free one. Raises `OSError` if the address cannot be listened on, `ValueError` if the token is
        empty, `CertificateError` if there is a certificate that cannot be used.
        """
        admission = Admission(Door(token, host=host, origins=access.origins))
        context = None if access.certificate is None else server_context(access.certificate, access.key)
        crowd = Crowd[Connection](limits.connections)
        server = await serve(
            functools.partial(_converse, dispatcher),
            host,
            port,
            process_request=admission.admit,
            select_subprotocol=admission.select_subprotocol,
            create_connection=_connections(crowd, limits, context),
            server_header=None,
            compression=None,
            max_size=limits.message,
            max_queue=limits.requests,
            open_timeout=limits.open_seconds,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            logger=_silent_logger(),
        )
        return cls(server, crowd)

    async def close(self) -> None:
        """Stop accepting, close the connections with 1001, cut off those that do not close in time.

        May be called again. Takes `CLOSE_TIMEOUT` and `ABORT_TIMEOUT` together at the most; a method that has not
        returned by then is left to the event loop's end.
        """
        self._server.close()
        ended = asyncio.ensure_future(self._server.wait_closed())
        await asyncio.wait({ended}, timeout=CLOSE_TIMEOUT)
        self._abort()
        await asyncio.wait({ended}, timeout=ABORT_TIMEOUT)
        ended.cancel()

    def _abort(self) -> None:
        # The library's own timeout does not start before the client has read what was written.
        for connection in self._crowd.everybody:
            connection.cut_off()


def _connections(crowd: Crowd[Connection], limits: Limits, tls: ssl.SSLContext | None) -> Any:
    return functools.partial(Connection, crowd=crowd, limits=limits, tls=tls)


async def _converse(dispatcher: Dispatcher, connection: ServerConnection) -> None:
    """Answer a client's messages until it or we close the connection."""
    assert isinstance(connection, Connection)
    connection.begin()
    try:
        await Counted(_answer_all(dispatcher, connection), connection.share)
    except ConnectionClosed:
        return
    except Exception:
        # The library closes with 1011 and would log this, but its logger is silent.
        log.exception("A connection was given up")
        raise


async def _answer_all(dispatcher: Dispatcher, connection: Connection) -> None:
    turns = Turns(REQUESTS_PER_TURN)
    outlet = Outlet(functools.partial(_send_unasked, connection), limit=connection.limits.unread)
    with contextlib.closing(outlet):
        while isinstance(message := await connection.recv(), str):
            answer = await dispatcher.answer(message, outlet)
            if answer is not None:
                await _send(connection, answer)
            outlet.release()
            await turns.step()
    await connection.close(CloseCode.UNSUPPORTED_DATA, "messages must be text")


async def _send_unasked(connection: ServerConnection, text: str) -> None:
    with contextlib.suppress(ConnectionClosed):  # whoever receives finds out
        await _send(connection, text)


async def _send(connection: ServerConnection, answer: Text) -> None:
    if isinstance(answer, str):
        if len(answer) <= MAX_FRAME:
            await connection.send(answer)
            return
        answer = _alone(answer)
    async with contextlib.aclosing(answer), contextlib.aclosing(_fragments(answer)) as fragments:
        await connection.send(fragments)


async def _alone(text: str) -> AsyncGenerator[str]:
    yield text


async def _fragments(pieces: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """Cut and join pieces to `MAX_FRAME` characters, the last ones apart."""
    held: list[str] = []
    size = 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > MAX_FRAME:
            text, held = "".join(held), []
            size %= MAX_FRAME
            for start in range(0, len(text) - size, MAX_FRAME):
                yield text[start : start + MAX_FRAME]
                await asyncio.sleep(0)
            held.append(text[len(text) - size :])
    yield "".join(held)
