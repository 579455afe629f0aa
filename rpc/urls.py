"""The absolute URL of a request, from its head alone."""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic_core import Url

from rpc.records import RequestHead
from rpc.wire import MAX_PORT, ip_address, text

DEFAULT_PORTS = {"http": 80, "https": 443}

AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\\%\x00-\x20\x7f]+)(?::(?P<port>[0-9]{0,5}))?")
NOT_IN_URL = re.compile(r"[\x00-\x20\x7f#]")
"""What a parser would drop from a URL, or take as the beginning of a fragment, which no request has."""

UNKNOWN_HOST = "invalid"
"""A host that cannot exist (RFC 6761 section 6.4), for a request that names none that a URL could carry."""


def _host(host: str) -> str | None:
    """Return the host as a URL carries it, an international one in ASCII; null if a parser (WHATWG URL) rejects it."""
    try:
        parsed = Url(f"http://{host}/").host
    except ValueError:
        return None
    return host if host.isascii() else parsed


def _split(authority: str) -> tuple[str, int | None] | None:
    match = AUTHORITY.fullmatch(authority)
    if match is None or (host := _host(match["host"])) is None:
        return None
    port = int(match["port"]) if match["port"] else None
    return None if port is not None and port > MAX_PORT else (host, port)


def _asked_for(head: RequestHead) -> bytes:
    """Return the authority that the client named: `:authority`, else the Host field."""
    if head.authority:
        return head.authority
    return next((value for name, value in head.fields if name.lower() == b"host"), b"")


def _scheme(head: RequestHead) -> str:
    if head.scheme in (b"http", b"https"):
        return head.scheme.decode()
    return "http" if head.port == DEFAULT_PORTS["http"] else "https"


def _reached(host: str, port: int) -> str:
    """Return the authority that the proxy was to reach."""
    host = ip_address(host) or host
    suffix = f":{port}" if 0 < port <= MAX_PORT else ""
    return f"[{host}]{suffix}" if ":" in host else f"{host}{suffix}"


@lru_cache(maxsize=4096)
def _origin(scheme: str, asked_for: bytes, host: str, port: int) -> str:
    name, number = _split(text(asked_for).strip()) or _split(_reached(host, port)) or (UNKNOWN_HOST, None)
    return f"{scheme}://{name}" if number in (None, DEFAULT_PORTS[scheme]) else f"{scheme}://{name}:{number}"


def _percent_encoded(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def absolute_url(head: RequestHead) -> str:
    """Return `scheme://host[:port]/path?query` with the host that the client asked for, a default port left out.

    Where the client named no host that a URL can carry, it is the host that the proxy was to reach. The asterisk-form
    and the authority-form of the request target (RFC 9112 section 3.2) have no path: it is `/`.
    """
    origin = _origin(_scheme(head), _asked_for(head), head.host, head.port)
    path = text(head.path)
    return origin + NOT_IN_URL.sub(_percent_encoded, path) if path.startswith("/") else f"{origin}/"
