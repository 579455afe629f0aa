"""Serving what is stored, without a proxy: on the same endpoint, by the same rules."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from rpc.api import api
from rpc.certificates import CertificateError
from rpc.door import is_loopback
from rpc.endpoint import Endpoint
from rpc.records import Access
from rpc.store import Store

TOKEN_BYTES = 32
TOKEN = re.compile(r"[A-Za-z0-9._~-]*")
"""What needs no quoting in a URL, in an Authorization field or as a subprotocol (RFC 3986 section 2.3, RFC 6750
section 2.1, RFC 9110 section 5.6.2)."""

LEAST_TOKEN = 22
"""Characters of base64 that hold 128 bits."""

ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s*]+")
"""An origin as browsers write it (RFC 6454 section 6.1). `null` is none: any page can make itself that."""

ENDING = (signal.SIGINT, signal.SIGTERM)


class ServingError(Exception):
    """The endpoint cannot listen; the sentence is for the user."""


class Where(NamedTuple):
    """Where to listen and who may come in; an empty token is a new random one."""

    host: str
    port: int
    token: str = ""
    access: Access = Access()

    def fault(self) -> str | None:
        """Return what is wrong with it; null if nothing is."""
        if not TOKEN.fullmatch(self.token):
            return "--token may only have letters, digits and the characters - . _ ~ in it."
        if self._is_short and not is_loopback(self.host):
            return f"--token must have {LEAST_TOKEN} characters or more where others can reach the endpoint."
        if self.access.key and not self.access.certificate:
            return "--tls-key needs --tls-cert."
        return next(
            (f"{origin!r} is no origin." for origin in self.access.origins if not ORIGIN.fullmatch(origin)), None
        )

    def warnings(self) -> Iterator[str]:
        """Yield what the user should know about who can come in."""
        if self._is_short:
            least = f"with less than {LEAST_TOKEN} characters"
            yield f"--token is short: {least}, somebody else on this machine may guess it."
        if not is_loopback(self.host):
            yield f"The endpoint listens on {self.host}: other machines may reach it."
            if not self.access.certificate:
                yield "Without --tls-cert, whoever is on the way can read the token and everything that is answered."

    @property
    def _is_short(self) -> bool:
        return 0 < len(self.token) < LEAST_TOKEN

    def url(self, port: int, token: str) -> str:
        """Return the URL of the endpoint, once it listens."""
        scheme = "wss" if self.access.certificate else "ws"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}/?token={token}"


def serve(store: Store, where: Where) -> None:
    """Serve a store until the process is told to end. Raises `ServingError`."""
    for warning in where.warnings():
        print(warning, file=sys.stderr)
    asyncio.run(_serve(store, where))


async def _serve(store: Store, where: Where) -> None:
    token = where.token or secrets.token_urlsafe(TOKEN_BYTES)
    dispatcher, subscriptions = api(store, None)
    with _told_to_end() as told:
        try:
            endpoint = await Endpoint.start(
                dispatcher, host=where.host, port=where.port, token=token, access=where.access
            )
        except CertificateError as error:
            raise ServingError(str(error)) from error
        except OSError as error:
            message = f"The endpoint cannot listen on {where.host}:{where.port}: {error.strerror or error}."
            raise ServingError(message) from error
        print(f"Entries endpoint: {where.url(endpoint.port, token)}", flush=True)
        await told.wait()
        await subscriptions.close()
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
