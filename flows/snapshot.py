"""All that the API tells of a session, as one JSON value: entries, bodies in base64, WebSocket messages, each by id."""

from __future__ import annotations

import time
from typing import Any

from tests.peers.api import PATIENCE, Api

SETTLED_SECONDS = 0.5
"""A session in which nothing has changed for so long is taken to be complete."""

type Snapshot = dict[str, dict[str, Any]]


def take(api: Api) -> Snapshot:
    """Return what there is now of the newest session."""
    session = api.session()
    entries = api.entries(session)
    return {
        "entries": {entry["id"]: entry for entry in entries},
        "request_bodies": {entry["id"]: api.body("request", entry, "base64") for entry in entries},
        "response_bodies": {entry["id"]: api.body("response", entry, "base64") for entry in entries},
        "messages": {entry["id"]: api.messages(entry) for entry in entries if entry["isWebSocket"]},
    }


def settled(api: Api, count: int) -> Snapshot:
    """Wait for this many entries, and until they do not change any more. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    seen = take(api)
    while time.monotonic() < deadline:
        time.sleep(SETTLED_SECONDS)
        before, seen = seen, take(api)
        if seen == before and len(seen["entries"]) == count:
            return seen
    message = f"{len(seen['entries'])} entries where {count} were expected: {seen['entries']}"
    raise TimeoutError(message)
