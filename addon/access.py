"""Where the endpoint listens and who may come in: the options, what is wrong with them, and what to warn of."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from mitmproxy.exceptions import OptionsError
from mitmproxy.optmanager import OptManager

from rpc.records import Access

MAX_PORT = 65535
TOKEN_BYTES = 32

TOKEN = re.compile(r"[A-Za-z0-9._~-]*")
"""What needs no quoting in a URL, in an Authorization field or as a subprotocol (RFC 3986 section 2.3, RFC 6750
section 2.1, RFC 9110 section 5.6.2)."""

LEAST_TOKEN = 22
"""Characters of base64 that hold 128 bits."""

ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s*]+")
"""An origin as browsers write it (RFC 6454 section 6.1). `null` is none: any page can make itself that."""

OPTIONS: tuple[tuple[str, type, object, str], ...] = (
    ("rpc_listen_host", str, "127.0.0.1", "Address that the entries endpoint listens on."),
    ("rpc_listen_port", int, 8765, "Port that the entries endpoint listens on; 0 picks a free one."),
    ("rpc_token", str, "", "Token that clients of the entries endpoint must send; empty: a new random one each run."),
    (
        "rpc_allowed_origins",
        Sequence[str],
        [],
        "Origins whose pages and extensions may connect to the entries endpoint, such as https://app.example or"
        " chrome-extension://<id>; each still needs the token.",
    ),
    ("rpc_tls_cert", str, "", "PEM file with the certificate, and its chain, of the entries endpoint; empty: no TLS."),
    ("rpc_tls_key", str, "", "PEM file with its private key, if that is not in rpc_tls_cert."),
)


def check(options: OptManager) -> None:
    """Raise `OptionsError` if the options cannot be served."""
    if not 0 <= options.rpc_listen_port <= MAX_PORT:
        raise OptionsError(f"rpc_listen_port must be between 0 and {MAX_PORT}, not {options.rpc_listen_port}.")
    if not options.rpc_listen_host:
        raise OptionsError("rpc_listen_host must be an address or a host name.")
    _check_token(options)
    for origin in options.rpc_allowed_origins:
        if not ORIGIN.fullmatch(origin):
            raise OptionsError(f"rpc_allowed_origins must be origins such as https://app.example, not {origin!r}.")
    if options.rpc_tls_key and not options.rpc_tls_cert:
        raise OptionsError("rpc_tls_key needs rpc_tls_cert.")


def _check_token(options: OptManager) -> None:
    if not TOKEN.fullmatch(options.rpc_token):
        raise OptionsError("rpc_token may only have letters, digits and the characters - . _ ~ in it.")
    if _is_short(options) and not _is_loopback(options.rpc_listen_host):
        message = f"rpc_token must have {LEAST_TOKEN} characters or more where others can reach the endpoint."
        raise OptionsError(message)


def warnings(options: OptManager) -> Iterator[str]:
    """Yield what the user should know about who can come in."""
    if _is_short(options):
        yield (
            f"rpc_token is short: with less than {LEAST_TOKEN} characters, somebody else on this machine may guess it."
        )
    if not _is_loopback(options.rpc_listen_host):
        yield f"The entries endpoint listens on {options.rpc_listen_host}: other machines may reach it."
        if not options.rpc_tls_cert:
            yield "Without rpc_tls_cert, whoever is on the way can read the token and everything that is answered."


def token(options: OptManager) -> str:
    """Return the token that was said, or a new random one."""
    return options.rpc_token or secrets.token_urlsafe(TOKEN_BYTES)


def access(options: OptManager) -> Access:
    """Return what the options say about who may come in."""
    return Access(
        origins=tuple(options.rpc_allowed_origins),
        certificate=_path(options.rpc_tls_cert),
        key=_path(options.rpc_tls_key),
        run_file=str(Path(options.confdir).expanduser().absolute() / "entries" / f"{os.getpid()}.json"),
    )


def _path(said: str) -> str | None:
    return str(Path(said).expanduser().absolute()) if said else None


def _is_short(options: OptManager) -> bool:
    return 0 < len(options.rpc_token) < LEAST_TOKEN


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
