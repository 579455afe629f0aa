"""Writing a session as a HAR file, entry by entry: a session of any size takes the memory of its largest entry."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import BinaryIO

import msgspec

from rpc import har
from rpc.records import Side
from rpc.sources import Session, Source

NAME = "mitmproxy-entries"

SIDES: tuple[Side, Side] = ("request", "response")

_encode = msgspec.json.encode


def _version() -> str:
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:  # it runs from a folder
        return ""


def _head(session: Session) -> bytes:
    log = {
        "version": har.VERSION,
        "creator": {"name": NAME, "version": _version()},
        "pages": [],
        "comment": session.name,
        "_session": {"id": session.id, "name": session.name},
    }
    return b'{"log":' + _encode(log).removesuffix(b"}") + b',"entries":['


def export_har(source: Source, session: Session, file: BinaryIO, on_entry: Callable[[], None] = lambda: None) -> None:
    """Write a session as HAR 1.2; `on_entry` is called after each entry. Raises `OSError`, `SourceError`."""
    file.write(_head(session))
    separator = b"\n"
    for entry_id in source.entry_ids(session.id):
        if (entry := _entry(source, session.id, entry_id)) is not None:
            file.write(separator + _encode(entry))
            separator = b",\n"
        on_entry()
    file.write(b"\n]}}\n")


def _entry(source: Source, session_id: str, entry_id: str) -> har.Json | None:
    told = source.entry(session_id, entry_id)
    if told is None:
        return None
    messages = source.messages(session_id, entry_id) if told["isWebSocket"] else None
    request_body, response_body = (source.body(session_id, entry_id, side) for side in SIDES)
    return har.entry(told, request_body, response_body, messages)
