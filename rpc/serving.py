"""Serving what is stored, without a proxy: on the same endpoint, by the same rules."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rpc.door import is_loopback
from rpc.endpoint import Endpoint
from rpc.jsonrpc import Dispatcher
from rpc.methods import Methods
from rpc.store import Store

TOKEN_BYTES = 32
TOKEN = re.compile(r"[A-Za-z0-9._~-]*")
"""What needs no quoting in a URL, in an Authorization field or as a subprotocol (RFC 3986 section 2.3, RFC 6750
section 2.1, RFC 9110 section 5.6.2)."""

LEAST_TOKEN = 22
"""Characters of base64 that hold 128 bits."""

ENDING = (signal.SIGINT, signal.SIGTERM)


class ServingError(Exception):
    """The endpoint cannot listen; the sentence is for the user."""


def token_fault(token: str, host: str) -> str | None:
    """Return what is wrong with a token that was said; null if nothing is."""
    if not TOKEN.fullmatch(token):
        return "--token may only have letters, digits and the characters - . _ ~ in it."
    if token and len(token) < LEAST_TOKEN and not is_loopback(host):
        return f"--token must have {LEAST_TOKEN} characters or more where others can reach the endpoint."
    return None


def serve(store: Store, *, host: str, port: int, token: str) -> None:
    """Serve a store until the process is told to end; an empty token is a new random one. Raises `ServingError`."""
    asyncio.run(_serve(store, host, port, token or secrets.token_urlsafe(TOKEN_BYTES)))


async def _serve(store: Store, host: str, port: int, token: str) -> None:
    with _told_to_end() as told:
        try:
            dispatcher = Dispatcher(Methods(store, None).all())
            endpoint = await Endpoint.start(dispatcher, host=host, port=port, token=token)
        except OSError as error:
            message = f"The endpoint cannot listen on {host}:{port}: {error.strerror or error}."
            raise ServingError(message) from error
        shown = f"[{host}]" if ":" in host else host
        print(f"Entries endpoint: ws://{shown}:{endpoint.port}/?token={token}", flush=True)
        await told.wait()
        await endpoint.close()


@contextmanager
def _told_to_end() -> Iterator[asyncio.Event]:
    """Yield what is set once a signal asks the process to end."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # Windows: Ctrl-C interrupts
        for number in ENDING:
            loop.add_signal_handler(number, told.set)
    yield told
