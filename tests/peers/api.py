"""A client of the endpoint: it asks one thing at a time and holds every answer to the contract."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import connect

from tests import strict_client

PATIENCE = 60.0
"""Seconds within which something must have been recorded; the machine that runs the tests may be busy."""

type Entry = dict[str, Any]


class RpcError(Exception):
    """The endpoint has answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code: int = error["code"]
        self.data: Any = error.get("data")


class Api:
    """A connection to the endpoint of a running proxy."""

    def __init__(self, url: str) -> None:
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            # Pings would take their payload from `random`, of which hypothesis wants nobody else to take anything.
            connect(url, max_size=None, compression=None, proxy=None, open_timeout=PATIENCE, ping_interval=None)
        )
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def exchange(self, text: str) -> str:
        """Send a message as it is, and return the answer's text."""
        self._socket.send(text)
        answer = self._socket.recv()
        assert isinstance(answer, str)
        return answer

    def call(self, method: str, **params: Any) -> Any:
        """Call a method and return its result. Raises `RpcError`."""
        identity = next(self._ids)
        text = self.exchange(json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}))
        answer = json.loads(text)
        assert answer["id"] == identity
        if "error" in answer:
            raise RpcError(answer["error"])
        return strict_client.check(method, text)

    def session(self) -> str:
        """Return the id of the newest session."""
        newest: str = self.call("sessions/list")[-1]["id"]
        return newest

    def entry_ids(self, session: str | None = None) -> list[str]:
        ids: list[str] = self.call("sessions/get_entry_ids", sessionId=session or self.session())
        return ids

    def get(self, entry_id: str, session: str | None = None) -> Entry:
        entry: Entry = self.call("sessions/get_entry", sessionId=session or self.session(), entryId=entry_id)
        return entry

    def entries(self, session: str | None = None) -> list[Entry]:
        session = session or self.session()
        return [self.get(entry_id, session) for entry_id in self.entry_ids(session)]

    def body(self, side: str, entry: Entry | str, encoding: str = "text") -> str | None:
        entry_id = entry if isinstance(entry, str) else entry["id"]
        method = f"sessions/get_{side}_body"
        body: str | None = self.call(method, sessionId=self.session(), entryId=entry_id, encoding=encoding)
        return body

    def messages(self, entry: Entry | str) -> list[dict[str, Any]] | None:
        entry_id = entry if isinstance(entry, str) else entry["id"]
        messages: list[dict[str, Any]] | None = self.call(
            "sessions/get_websocket_messages", sessionId=self.session(), entryId=entry_id
        )
        return messages

    def wait(self, fits: Callable[[Entry], Any], *, count: int = 1) -> list[Entry]:
        """Wait until this many entries of the newest session fit, and return them in order."""
        return eventually(lambda: self._fitting(fits), lambda found: len(found) >= count)

    def wait_for(self, url_end: str, fits: Callable[[Entry], Any] | None = None) -> Entry:
        """Wait until the one entry whose URL ends so fits (if not told how: is answered in full); return it."""
        fits = fits or is_answered
        (entry,) = self.wait(lambda entry: entry["url"].endswith(url_end) and fits(entry))
        return entry

    def _fitting(self, fits: Callable[[Entry], Any]) -> list[Entry]:
        return [entry for entry in self.entries() if fits(entry)]


def is_answered(entry: Entry) -> bool:
    """Whether the response is complete and the process known, so that a finished entry does not change any more."""
    return entry["response"] is not None and entry["response"]["bodySize"] is not None


def eventually[Value](look: Callable[[], Value], is_right: Callable[[Value], Any]) -> Value:
    """Look until what is seen is right, and return it; fail with what was seen last."""
    deadline = time.monotonic() + PATIENCE
    while not is_right(seen := look()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {seen}"
        time.sleep(0.02)
    return seen
