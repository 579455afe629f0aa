"""Reading what crossed the wire as the contract's values: text, addresses, versions, header lists, instants.

Pure functions of bytes and numbers; nothing here knows of entries.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

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


def text(data: bytes) -> str:
    """Return bytes of a head as text: UTF-8, else Latin-1. The result never has a surrogate."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def http_version(version: bytes) -> str:
    """Return the contract's name of a version; an unknown minor one is the highest known (RFC 9110 section 2.5)."""
    return HTTP_VERSIONS.get(version) or "HTTP/1.1"


def ip_address(host: str) -> str | None:
    """Return the host as an IP address without zone, IPv4-mapped IPv6 unmapped; null if it is a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def net_address(address: Address | None) -> NetAddress | None:
    """Return one end of a connection; null if it is unknown or no IP address. Port 0 is an unknown port."""
    if address is None or (ip := ip_address(address[0])) is None:
        return None
    return NetAddress(ip=ip, port=address[1] or None)


def instant(seconds: float) -> str:
    """Return Unix time as RFC 3339 in UTC with whole milliseconds, rounded down."""
    whole = int(seconds * 1000) / 1000
    return datetime.fromtimestamp(whole, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _pairs(fields: Fields) -> list[tuple[str, str]]:
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
