"""The door in use: its decisions as answers to requests, slow ones to many wrong tokens; only so many are inside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from rpc import openrpc
from rpc.connection import Connection
from rpc.door import Door, Refusal
from rpc.failures import Failures

FULL = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many connections.\n")

FIELDS = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", "Bearer"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After", "5"),
}
"""What an answer says beside its sentence (RFC 9110 sections 11.6.1 and 10.2.3)."""


class Admission:
    """Lets connections of an endpoint in."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._failures = Failures()

    async def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return null to go on with a request, else the response that ends it."""
        refusal = self._door.refusal(request)
        if refusal is not None and refusal.is_guess:
            await asyncio.sleep(self._failures.pause(_address_of(connection)))
        if refusal is None and not _has_room(connection, request):
            refusal = FULL
        return _plain(connection, request) if refusal is None else _response(connection, refusal)

    def select_subprotocol(self, connection: ServerConnection, _offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """Return the subprotocol of a client that is let in."""
        assert connection.request is not None
        chosen = self._door.subprotocol(connection.request)
        return None if chosen is None else Subprotocol(chosen)


def _has_room(connection: ServerConnection, request: Request) -> bool:
    assert isinstance(connection, Connection)
    # A plain request is over when it is answered.
    return "Upgrade" not in request.headers or connection.come_in()


def _plain(connection: ServerConnection, request: Request) -> Response | None:
    """Return the answer to a plain request for the API's description; null for what is none."""
    if "Upgrade" in request.headers or request.path.partition("?")[0] != openrpc.PATH:
        return None
    response = connection.respond(HTTPStatus.OK, openrpc.document())
    del response.headers["Content-Type"]  # else there would be two
    response.headers["Content-Type"] = "application/json"
    return response


def _response(connection: ServerConnection, refusal: Refusal) -> Response:
    response = connection.respond(refusal.status, refusal.text)
    if refusal.status in FIELDS:
        name, value = FIELDS[refusal.status]
        response.headers[name] = value
    return response


def _address_of(connection: ServerConnection) -> str:
    # Null if the client is gone already.
    peer = connection.remote_address
    return str(peer[0]) if peer else ""
