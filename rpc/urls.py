"""The absolute URL of a request, from its head alone."""

from __future__ import annotations

import re

from rpc.records import RequestHead
from rpc.wire import ip_address, text

DEFAULT_PORTS = {"http": 80, "https": 443}

AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{0,5}))?")
LABEL = re.compile(r"[0-9A-Za-z_~!$&'()*+,;=-]{1,63}")
NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
MAX_PORT = 65535

UNKNOWN_HOST = "invalid"
"""A host that cannot exist (RFC 6761 section 6.4), for a request that names none that a URL could carry."""


def _is_label(label: str) -> bool:
    if not LABEL.fullmatch(label):
        return False
    try:
        return not label.lower().startswith("xn--") or bool(label[4:].encode().decode("punycode"))
    except UnicodeError:
        return False


def _host(host: str) -> str | None:
    """Return the host as a URL may carry it, or null. A host that ends in a number must be an address (WHATWG URL)."""
    if address := ip_address(host.strip("[]")):
        return f"[{address}]" if ":" in address else address
    labels = host.removesuffix(".").split(".")
    if not all(map(_is_label, labels)) or NUMBER.fullmatch(labels[-1]):
        return None
    return host


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return ""


def _split(authority: str) -> tuple[str, int | None] | None:
    match = AUTHORITY.fullmatch(authority)
    if match is None or (host := _host(_ascii(match["host"]))) is None:
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


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def absolute_url(head: RequestHead) -> str:
    """Return `scheme://host[:port]/path?query` with the host that the client asked for, a default port left out.

    Where the client named no host that a URL can carry, it is the host that the proxy was to reach. The asterisk-form
    and the authority-form of the request target (RFC 9112 section 3.2) have no path: it is `/`.
    """
    scheme = _scheme(head)
    host, port = (
        _split(text(_asked_for(head)).strip()) or _split(f"{_bracketed(head.host)}:{head.port}") or (UNKNOWN_HOST, None)
    )
    path = text(head.path)
    suffix = "" if port in (None, DEFAULT_PORTS[scheme]) else f":{port}"
    return f"{scheme}://{host}{suffix}{path if path.startswith('/') else '/'}"
