"""Reading what crossed the wire as the contract's values: text, addresses, versions, header lists, instants.

Pure functions of bytes and numbers; nothing here knows of entries.
"""

from __future__ import annotations

import ipaddress
import math
from datetime import UTC, datetime
from functools import lru_cache

from rpc.records import Address, Fields, RequestHead, ResponseHead
from rpc.schema import NetAddress

HTTP_VERSIONS = {
    b"HTTP/1.0": "HTTP/1.0",
    b"HTTP/1.1": "HTTP/1.1",
    b"HTTP/2": "HTTP/2",
    b"HTTP/2.0": "HTTP/2",
    b"HTTP/3": "HTTP/3",
    b"HTTP/3.0": "HTTP/3",
}

MULTIPLEXED = frozenset({"HTTP/2", "HTTP/3"})
"""The versions that have pseudo-header fields and no reason phrase (RFC 9113 section 8.3, RFC 9114 section 4.3)."""

MAX_PORT = 0xFFFF
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_800
"""Unix times of the years 1 and 10000, between which RFC 3339 can tell an instant."""


def text(data: bytes) -> str:
    """Return bytes of a head as text: UTF-8, else Latin-1. The result never has a surrogate."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def http_version(version: bytes) -> str:
    """Return the contract's name of a version; an unknown minor one is the highest known (RFC 9110 section 2.5)."""
    return HTTP_VERSIONS.get(version) or "HTTP/1.1"


def without_surrogates(name: str) -> str:
    """Return a name from the operating system as text: bytes that it could not read are Latin-1, as in `text`."""
    try:
        return text(name.encode(errors="surrogateescape"))
    except UnicodeEncodeError:
        return name.encode(errors="replace").decode()


def ip_address(host: str) -> str | None:
    """Return the host as an IP address without zone, IPv4-mapped IPv6 unmapped; null if it is a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


@lru_cache(maxsize=4096)
def net_address(address: Address | None) -> NetAddress | None:
    """Return one end of a connection; null if it is unknown or no IP address. Port 0 is an unknown port."""
    if address is None or (ip := ip_address(address[0])) is None:
        return None
    return NetAddress(ip=ip, port=address[1] if 0 < address[1] <= MAX_PORT else None)


@lru_cache(maxsize=64)
def _date_and_time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def instant(seconds: float) -> str:
    """Return Unix time as RFC 3339 in UTC with whole milliseconds, rounded down.

    A time that no calendar has (a damaged capture can hold any number) is the epoch.
    """
    known = seconds if FIRST_SECOND <= seconds < LAST_SECOND else 0
    second, millisecond = divmod(math.floor(known * 1000), 1000)
    return f"{_date_and_time(second)}.{millisecond:03}Z"


def _pairs(fields: Fields) -> list[tuple[str, str]]:
    try:
        return [(name.decode(), value.decode()) for name, value in fields]
    except UnicodeDecodeError:
        return [(text(name), text(value)) for name, value in fields]


def _pseudo_values(head: RequestHead) -> dict[bytes, bytes]:
    return {
        b":method": head.method,
        b":scheme": head.scheme,
        b":authority": head.authority,
        b":path": head.path,
    }


def request_headers(head: RequestHead, trailers: Fields) -> list[tuple[str, str]]:
    """Return the request's fields in wire order: pseudo-header fields as the client ordered them, then the others."""
    values = _pseudo_values(head)
    pseudo = tuple((name, values[name]) for name in head.pseudo or () if name in values)
    return _pairs(pseudo + head.fields + trailers)


def response_headers(head: ResponseHead, trailers: Fields) -> list[tuple[str, str]]:
    """Return the response's fields in wire order, `:status` first where the version has it."""
    fields = _pairs(head.fields + trailers)
    if http_version(head.http_version) in MULTIPLEXED:
        return [(":status", str(head.status_code)), *fields]
    return fields
