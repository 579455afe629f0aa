"""What the benchmarks ask the endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import connect

type Call = Callable[..., Any]


@contextmanager
def calls(url: str) -> Iterator[Call]:
    """Yield a function that calls a method of the endpoint with parameters by name and returns its result."""
    with connect(url, max_size=None) as socket:

        def call(method: str, **params: str) -> Any:
            socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            return json.loads(socket.recv())["result"]

        yield call


def entry_ids(call: Call) -> tuple[str, list[str]]:
    """Return the only session's id and those of its entries."""
    (session,) = call("sessions/list")
    return session["id"], call("sessions/get_entry_ids", sessionId=session["id"])
