"""One client's connection, within bounds: what it sends is taken in bit by bit, and only while it reads itself.

The library answers pings and assembles messages as bytes come, however many there are. So the bytes are handed to it in
slices, a few milliseconds of work at a time, none beyond the request's head before the client has come in, and none
while it does not read what it is sent. Nothing here knows what a message means or who may come in.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.server import ServerProtocol

from rpc.crowd import Crowd
from rpc.records import Limits
from rpc.shares import Share

MAX_HEAD = 16 * 1024
"""Bytes of a request's head. Browsers send one or two KiB."""

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

SLICE_SIZE = 1024
"""Bytes that are handed on at once: about 170 of the smallest frames, which take a few milliseconds."""

SLICES_SECONDS = 0.002
"""How long slices of one connection are handed on before others get their turn."""

IDLE_CHECKS = 4
"""How often, in the time that a client may be idle, it is looked whether it is."""

CLOSE_TIMEOUT = 2.0
"""Seconds that a client has for its part of the closing handshake."""


class Connection(ServerConnection):
    """A client's connection, held to its `limits`. It is at the door until `come_in`.

    `tls` is null for a connection in the clear. What else is given is the library's.
    """

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        crowd: Crowd[Connection],
        limits: Limits,
        tls: ssl.SSLContext | None,
        **options: Any,
    ) -> None:
        super().__init__(protocol, server, **options)
        self.share = Share()
        self._crowd = crowd
        self.limits = limits
        self._tls = tls
        self._wire: asyncio.Transport | None = None
        self._valve: _Valve | None = None
        self._securing: asyncio.Task[None] | None = None
        self._held = b""
        self._head_size = 0
        self._is_feeding = False
        self._is_unread = False
        self._has_moved = True
        self._unsent = 0
        self._still_checks = 0
        self._check: asyncio.TimerHandle | None = None

    def come_in(self) -> bool:
        """Let the client in, if there is room for it."""
        return self._crowd.come_in(self)

    def begin(self) -> None:
        """Take in what the client has sent, and mind whether it is there: the opening handshake is done."""
        self._check_later()
        self._arrange()

    def cut_off(self) -> None:
        """End the connection at once, without a closing handshake."""
        if self._wire is not None:
            self._wire.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the TCP connection; if there is to be TLS, that comes first."""
        self._crowd.arrive(self)
        self._wire = cast(asyncio.Transport, transport)
        if self._tls is None:
            self._open(self._wire)
        else:
            self._wire.pause_reading()
            self._securing = self.loop.create_task(self._secure(self._wire, self._tls))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._crowd.leave(self)
        self.share.leave()
        if self._check is not None:
            self._check.cancel()
        self._held = b""
        if self._valve is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and hand on as many of them as may be handed on now."""
        self._has_moved = True
        self._held += data
        if self._valve is not None:  # else this came with the end of the TLS handshake
            self._feed()

    def eof_received(self) -> None:
        """Take the end of what the client sends."""
        self._held = b""
        if self._valve is not None:
            super().eof_received()

    def pause_writing(self) -> None:
        """Take in that the client does not read what it is sent."""
        self._is_unread = True
        super().pause_writing()
        self._arrange()

    def resume_writing(self) -> None:
        """Take in that it has read."""
        self._has_moved = True
        self._is_unread = False
        super().resume_writing()
        self._arrange()

    # TLS

    async def _secure(self, wire: asyncio.Transport, tls: ssl.SSLContext) -> None:
        try:
            secured = await self.loop.start_tls(
                wire, self, tls, server_side=True, ssl_handshake_timeout=self.limits.open_seconds
            )
        except (OSError, ValueError):  # what is no TLS, or is given up
            secured = None
        if secured is None or secured.is_closing():
            self._crowd.leave(self)
            wire.abort()
        else:
            self._open(secured)

    def _open(self, transport: asyncio.Transport) -> None:
        self._valve = _Valve(transport, self._arrange)
        super().connection_made(cast(asyncio.Transport, self._valve))
        self._feed()

    # Reading

    def _feed(self) -> None:
        self._is_feeding = False
        held, start = memoryview(self._held), 0
        end = monotonic() + SLICES_SECONDS
        self._held = b""
        self.share.begin()
        while start < len(held) and self._takes_more():
            part = bytes(held[start : start + SLICE_SIZE])
            start += len(part)
            self._hand_on(part)
            if monotonic() >= end:
                break
        self.share.end()
        if not self._is_gone():
            self._held = bytes(held[start:])
            self._arrange()

    def _hand_on(self, part: bytes) -> None:
        super().data_received(part)
        if self.request is None:
            self._head_size += len(part)
            if self._head_size > MAX_HEAD:
                self.transport.write(TOO_LARGE)
                self.transport.close()

    def _takes_more(self) -> bool:
        is_at_the_door = self.request is not None and self.protocol.state is State.CONNECTING
        return (
            self._valve is not None
            and self._valve.is_open_inside
            and not self._is_unread
            and not is_at_the_door
            and not self._is_gone()
        )

    def _is_gone(self) -> bool:
        return self._valve is None or self._valve.is_closing()

    def _arrange(self) -> None:
        """Read on if there is nothing left to hand on; hand on what there is, in the next turn, if it is taken."""
        if self._valve is None or self._is_gone():
            return
        self._valve.we_read = not self._held and not self._is_unread
        if self._held and not self._is_feeding and self._takes_more():
            self._is_feeding = True
            self.loop.call_later(self.share.rest(), self._feed)

    # Clients that are gone without a word, or do not read

    def _check_later(self) -> None:
        self._check = self.loop.call_later(self.limits.idle_seconds / IDLE_CHECKS, self._check_idle)

    def _check_idle(self) -> None:
        self._still_checks = 0 if self._moves() else self._still_checks + 1
        if self._still_checks < IDLE_CHECKS:
            self._check_later()
            return
        if self.protocol.state is State.OPEN:
            self.protocol.fail(CloseCode.POLICY_VIOLATION, f"idle for {self.limits.idle_seconds} seconds")
            self.send_data()
        self._check = self.loop.call_later(CLOSE_TIMEOUT, self.cut_off)

    def _moves(self) -> bool:
        """Return whether a byte has come or gone since this was last asked, or it is us who do not read."""
        unsent, before = self.transport.get_write_buffer_size(), self._unsent
        moved, self._has_moved, self._unsent = self._has_moved, False, unsent
        return moved or unsent < before or not (self._is_unread or self._takes_more())


class _Valve:
    """A transport that is read from only if both the library and the connection want that."""

    def __init__(self, transport: asyncio.Transport, on_resume: Callable[[], None]) -> None:
        self._transport = transport
        self._on_resume = on_resume
        self._library_reads = True
        self._we_read = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        self._library_reads = False
        self._turn()

    def resume_reading(self) -> None:
        self._library_reads = True
        self._turn()
        self._on_resume()

    @property
    def is_open_inside(self) -> bool:
        """Whether the library takes more."""
        return self._library_reads

    @property
    def we_read(self) -> bool:
        """Whether the connection wants to read."""
        return self._we_read

    @we_read.setter
    def we_read(self, wanted: bool) -> None:
        self._we_read = wanted
        self._turn()

    def _turn(self) -> None:
        if self._library_reads and self._we_read:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
