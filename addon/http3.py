"""HTTP/3 streams of clients: each request is noted to have come on its stream, as over HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.proxy.layers.http._events import RequestHeaders
from mitmproxy.proxy.layers.http._http3 import Http3Server

from addon.streams import Stream, mark

if TYPE_CHECKING:
    from aioquic.h3.events import HeadersReceived
    from mitmproxy.proxy.layers.http._events import ResponseHeaders


class TappedHttp3Server(Http3Server):
    """mitmproxy's side of a client's HTTP/3 connection; it notes on each request what stream it has come on."""

    def parse_headers(self, event: HeadersReceived) -> RequestHeaders | ResponseHeaders:
        """Return the request that header fields make. Raises ValueError if they make none."""
        parsed = super().parse_headers(event)
        if isinstance(parsed, RequestHeaders):
            mark(parsed.request, Stream.of(event.stream_id, event.headers))
        return parsed
