"""Who comes in: what a request's Host, Origin and token say, for a WebSocket handshake and a plain request alike.

Pure: requests in, decisions out. Three questions are asked in this order, and the first that fails is the answer:

- Host: is it a name of ours? A page whose own name was rebound to our address still sends that name (DNS rebinding).
- Origin, and Sec-Fetch-Site: if a browser asks for a page, may that page ask? Only a listed one, token or not.
- The token: each one that is presented must be the right one, and there must be one.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from websockets.http11 import Request

BEARER = "bearer."
"""What a token is preceded by where it is offered as a subprotocol: browsers can set no other header field."""

LOCALHOST = "localhost"

HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]*)?")
"""A Host field's value without what no host of ours has (RFC 9110 section 7.2)."""

OWN_SITE = frozenset({"none", "same-origin"})
"""Values of Sec-Fetch-Site that no other site can cause (https://www.w3.org/TR/fetch-metadata/)."""


class Refusal(NamedTuple):
    """The answer to a request that is not let in. `is_guess`: it presented no right token, and may try others."""

    status: HTTPStatus
    text: str
    is_guess: bool = False


BAD_HOST = Refusal(HTTPStatus.BAD_REQUEST, "A valid Host field is required.\n")
FOREIGN_HOST = Refusal(HTTPStatus.FORBIDDEN, "The Host is none of this endpoint's names.\n")
FOREIGN_ORIGIN = Refusal(HTTPStatus.FORBIDDEN, "The origin is not in rpc_allowed_origins.\n")
NO_TOKEN = Refusal(HTTPStatus.UNAUTHORIZED, "A valid token is required.\n", is_guess=True)


def is_loopback(host: str) -> bool:
    """Return whether a host, as it is listened on or asked for, is this machine and cannot be reached from another."""
    address = _address(host)
    return host.lower() == LOCALHOST if address is None else address.is_loopback


def is_wildcard(host: str) -> bool:
    """Return whether a host stands for every address of this machine."""
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Door:
    """The rules of one endpoint. Raises `ValueError` if the token is empty.

    `host` is what is listened on. The token is taken from the query (`?token=`), from `Authorization: Bearer` and from
    an offered subprotocol, `bearer.<token>`.
    """

    def __init__(self, token: str, *, host: str, origins: Iterable[str] = ()) -> None:
        if not token:
            raise ValueError("the token is empty")
        self._token = token.encode()
        self._host = host.lower()
        self._address = _address(host)
        self._origins = frozenset(origin.lower() for origin in origins)

    def refusal(self, request: Request) -> Refusal | None:
        """Return how to refuse a request; null if it may come in."""
        return self._host_refusal(request) or self._origin_refusal(request) or self._token_refusal(request)

    def subprotocol(self, request: Request) -> str | None:
        """Return the offered subprotocol that is the token: a browser insists on one of those that it offered."""
        return next((offered for offered in _subprotocols(request) if offered.startswith(BEARER)), None)

    def _host_refusal(self, request: Request) -> Refusal | None:
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or (parts := HOST.fullmatch(hosts[0])) is None:
            return BAD_HOST
        return None if self._is_own(parts["v6"] or parts["name"]) else FOREIGN_HOST

    def _is_own(self, host: str) -> bool:
        if is_loopback(host) or host.lower() == self._host:
            return True
        if (address := _address(host)) is None:
            return False
        # Where any address will do, one was asked for as such: there was no name to rebind.
        return address == self._address or is_wildcard(self._host)

    def _origin_refusal(self, request: Request) -> Refusal | None:
        origins = request.headers.get_all("Origin")
        if origins:
            is_allowed = all(origin.lower() in self._origins for origin in origins)
        else:
            is_allowed = OWN_SITE.issuperset(request.headers.get_all("Sec-Fetch-Site"))
        return None if is_allowed else FOREIGN_ORIGIN

    def _token_refusal(self, request: Request) -> Refusal | None:
        presented = [*_tokens_of_query(request.path), *_tokens_of_header(request), *_tokens_of_subprotocols(request)]
        return None if presented and all(self._fits(readings) for readings in presented) else NO_TOKEN

    def _fits(self, readings: tuple[bytes, ...]) -> bool:
        # A list, so that all are compared, each in constant time.
        return any([hmac.compare_digest(reading, self._token) for reading in readings])  # noqa: C419


def _tokens_of_query(target: str) -> Iterator[tuple[bytes, ...]]:
    """Yield the readings of each `token` parameter: a plus sign is itself in a URL, and a space in a form's data."""
    query = target.encode("utf-8", "surrogateescape").partition(b"?")[2]
    for parameter in query.split(b"&"):
        name, _, value = parameter.partition(b"=")
        if unquote_to_bytes(name) == b"token":
            yield unquote_to_bytes(value), unquote_to_bytes(value.replace(b"+", b" "))


def _tokens_of_header(request: Request) -> Iterator[tuple[bytes, ...]]:
    """Yield what stands behind each `Bearer`; credentials of other schemes are not for us (RFC 9110 section 11.4)."""
    for value in request.headers.get_all("Authorization"):
        scheme, _, credentials = value.partition(" ")
        if scheme.lower() == "bearer":
            yield (credentials.strip(" ").encode("utf-8", "surrogateescape"),)


def _tokens_of_subprotocols(request: Request) -> Iterator[tuple[bytes, ...]]:
    for offered in _subprotocols(request):
        if offered.startswith(BEARER):
            yield (offered.removeprefix(BEARER).encode("utf-8", "surrogateescape"),)


def _subprotocols(request: Request) -> Iterator[str]:
    """Yield the offered subprotocols in order (RFC 6455 section 11.3.4)."""
    for value in request.headers.get_all("Sec-WebSocket-Protocol"):
        yield from (offered.strip(" \t") for offered in value.split(","))
