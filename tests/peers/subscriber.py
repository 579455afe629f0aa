"""A client that subscribes: it keeps what it is told, and holds every notification to the contract."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect

from tests import strict_client
from tests.peers.api import PATIENCE, RpcError


class Told(NamedTuple):
    """A notification: its event's name, and its parameters."""

    event: str
    params: dict[str, Any]


class Subscriber:
    """A connection to an endpoint. `told` is every notification so far, in order."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.told: list[Told] = []
        self._ids = itertools.count(1)
        self._looked_at = 0

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method and return its result. Raises `RpcError`."""
        identity = next(self._ids)
        await self.connection.send(json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}))
        while (text := await self._read()) is None or json.loads(text)["id"] != identity:
            pass
        answer = json.loads(text)
        if "error" in answer:
            raise RpcError(answer["error"])
        return strict_client.check(method, text)

    async def subscribe(self, **params: Any) -> str:
        identity: str = await self.call("sessions/subscribe", **params)
        return identity

    async def wait_for(self, event: str, fits: Callable[[dict[str, Any]], Any] = lambda _: True) -> dict[str, Any]:
        """Return the parameters of the next notification of this event that fits, of those not waited for before."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._looked_at < len(self.told):
                    told = self.told[self._looked_at]
                    self._looked_at += 1
                    if told.event == event and fits(told.params):
                        return told.params
                await self._read()

    def added(self) -> list[str]:
        """Return the ids of the entries that were announced, in order."""
        return [told.params["entry"]["id"] for told in self.told if told.event == "entry_added"]

    async def _read(self) -> str | None:
        """Read a message; return it if it is an answer."""
        text = await self.connection.recv()
        assert isinstance(text, str)
        if '"method":' not in text[:40]:
            return text
        method, params = strict_client.check_notification(text)
        self.told.append(Told(method.removeprefix("sessions/"), params))
        return None


@asynccontextmanager
async def subscriber(url: str, **options: Any) -> AsyncIterator[Subscriber]:
    async with connect(
        url, max_size=None, compression=None, proxy=None, open_timeout=PATIENCE, **options
    ) as connection:
        yield Subscriber(connection)
