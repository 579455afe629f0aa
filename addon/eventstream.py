"""Event streams (the media type text/event-stream of HTML's server-sent events): they pass as they come.

mitmproxy holds a response back until it is complete, and an event stream may never be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitmproxy import http

MEDIA_TYPE = "text/event-stream"


class KeptStream:
    """A stream that passes everything on, and keeps it: a saved capture has event streams only if they are kept."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def __call__(self, data: bytes) -> bytes:
        """Pass a piece on."""
        self._pieces.append(data)
        return data

    def content(self) -> bytes:
        """Return all that has passed."""
        return b"".join(self._pieces)


def stream_events(flow: http.HTTPFlow, *, keep: bool) -> None:
    """Let the response pass as it comes, if it is an event stream and nobody has decided otherwise."""
    response = flow.response
    if response is None or response.stream:
        return
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == MEDIA_TYPE:
        response.stream = KeptStream() if keep else True


def keep_events(flow: http.HTTPFlow) -> None:
    """Give the flow the content of an event stream that was kept."""
    if flow.response is not None and isinstance(flow.response.stream, KeptStream):
        flow.response.data.content = flow.response.stream.content()
