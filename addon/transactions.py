"""One HTTP transaction as its flow goes through the hooks: what it saves, and what the child has been told of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from addon import saved as saving
from addon.bodies import Body
from addon.clock import Now, now
from addon.saved import Saved
from addon.sending import stream_began
from addon.servers import Server, server_of
from addon.streams import stream_of
from rpc.records import Address, Connecting, Fields, RequestHead, ResponseHead, Side

if TYPE_CHECKING:
    from mitmproxy import http

    from addon.clients import Client
    from addon.conversations import Conversation

type RequestParts = tuple[bytes, bytes, str, int, bytes, bytes, bytes, Fields]
type ResponseParts = tuple[int, bytes, bytes, Fields]


def request_parts(request: http.Request) -> RequestParts:
    """Return a request's head as values that are compared quickly: unchanged parts are the same objects."""
    data = request.data
    return (
        data.method,
        data.scheme,
        data.host,
        data.port,
        data.authority,
        data.path,
        data.http_version,
        data.headers.fields,
    )


def response_parts(response: http.Response) -> ResponseParts:
    """Return a response's head as values that are compared quickly."""
    data = response.data
    return data.status_code, data.reason, data.http_version, data.headers.fields


class Transaction:
    """One flow's transaction. `saved` lies in the flow's metadata, so that it is saved with it.

    Out of a saved capture everything is known already: then nothing that is seen happening changes it.
    """

    def __init__(
        self, flow: http.HTTPFlow, client: Client, saved: Saved, start: Now | None, server: Server | None = None
    ) -> None:
        self.flow = flow
        self.client = client
        self.saved = saved
        self.id = saved["id"]
        self.told_request: RequestParts | None = None
        self.bodies: dict[Side, Body] = {"request": Body(self.id, "request"), "response": Body(self.id, "response")}
        self.told_response: ResponseParts | None = None
        self.request_is_done = False
        self.conversation: Conversation | None = None
        self._start = start
        self._server = server
        flow.metadata[saving.KEY] = saved

    @property
    def is_replayed(self) -> bool:
        """Whether this comes out of a saved capture."""
        return self._start is None

    @property
    def is_cut_off(self) -> bool:
        """Whether this comes out of a saved capture and ended without a complete response."""
        flow = self.flow
        return self.is_replayed and flow.error is not None and flow.websocket is None

    @property
    def is_pushed(self) -> bool:
        """Whether a server's promise was the request."""
        return self.saved.get("pushed", False)

    @property
    def connecting(self) -> Connecting | None:
        """How the connection was made, if this transaction accounts for it."""
        steps = self.saved["connecting"]
        return Connecting(*steps) if steps is not None else None

    def request_head(self) -> RequestHead:
        """Return the request's head as it is now, and remember that it is told."""
        self.told_request = request_parts(self.flow.request)
        return RequestHead(*self.told_request, self.saved["pseudo"])

    def request_has_changed(self) -> bool:
        """Whether the request's head differs from what was told. A promise has gone to the client as it was told."""
        return not self.is_pushed and request_parts(self.flow.request) != self.told_request

    def response_head(self, response: http.Response) -> ResponseHead:
        """Return the response's head as it is now, and remember that it is told."""
        self.told_response = response_parts(response)
        return ResponseHead(*self.told_response)

    def see_release(self) -> None:
        """Take in that no addon holds the request's head any longer: what the client sends on is read."""
        if self._start is not None and not self.is_pushed:
            self.saved["released"] = time.monotonic() - self._start.monotonic

    def see_request_end(self) -> None:
        """Take in that the request is complete. A promise is whole from the start, and so is a CONNECT."""
        if self._start is None:
            return
        end = self.flow.request.timestamp_end
        is_whole = self.is_pushed or end is None
        self.saved["request_end"] = self.saved["request_start"] if is_whole else _since(self._start, end)

    def see_sending(self, server: Server | None) -> None:
        """Take in that the request is sent on, over a connection that may not have been seen being made.

        What a server has promised is with the server from the start.
        """
        if self._start is None:
            return
        at = time.monotonic()
        self.saved["sent"] = self.saved["request_start"] if self.is_pushed else at - self._start.monotonic
        if server is not None:
            server.tunnel(at)
            self._account_for(server, self._start.monotonic)

    def see_refusal(self, server: Server | None) -> None:
        """Take in that there is no connection, after an attempt at one if this transaction stands for that."""
        if self._start is not None and server is not None:
            self._account_for(server, self._start.monotonic)

    def see_response_start(self, response: http.Response) -> None:
        """Take in that response headers have arrived."""
        if self._start is None:
            return
        self.saved["response_start"] = _since(self._start, response.timestamp_start)
        self.saved["remote"] = _address(self.flow.server_conn.peername) or self._peer()
        self._see_stream(self._start)

    def see_response_end(self) -> None:
        """Take in that the response is complete."""
        if self._start is not None and self.flow.response is not None:
            self.saved["response_end"] = _since(self._start, self.flow.response.timestamp_end)

    def size_of(self, side: Side) -> int | None:
        """Return the size of a body whose content is not there: it was streamed, or nothing is known of it."""
        return self.saved.get("streamed", {}).get(side)

    def see_streamed(self) -> None:
        """Take in how large the bodies were that passed as they came."""
        sizes = {side: body.size for side, body in self.bodies.items() if body.is_streamed}
        if sizes and not self.is_replayed:
            self.saved["streamed"] = sizes

    def see_failure(self) -> None:
        """Take in that the transaction has ended without a complete response."""
        if self._start is None:
            return
        self.saved["failed"] = time.monotonic() - self._start.monotonic
        self.saved["remote"] = self._peer()
        self._see_stream(self._start)

    def _see_stream(self, start: Now) -> None:
        """Take in when the request became a stream, if it had to wait for that after it had got its connection."""
        if self.saved["sent"] is None or self.is_pushed or self.flow.server_conn.alpn != b"h2":
            return
        if (at := stream_began(self.flow.request)) is not None:
            self.saved["sent"] = at - start.monotonic
        elif self.saved["response_start"] is None:
            self.saved["sent"] = None

    def _peer(self) -> Address | None:
        return self._server.peer if self._server is not None else None

    def _account_for(self, server: Server, zero: float) -> None:
        """Account for the making of a connection, once: by the first of the transactions that waited for it."""
        self._server = server
        if server.charged_to is None:
            server.charged_to = self.id
        if server.charged_to == self.id:
            self.saved["connecting"] = server.steps(zero)


def begin(flow: http.HTTPFlow, client: Client) -> Transaction:
    """Return the transaction of a live flow whose request headers have just arrived.

    Where the proxy had connected to the server before, and no other transaction accounts for that, it starts there.
    """
    at = now()
    wall = flow.request.timestamp_start
    start = request = Now(wall, at.monotonic_of(wall, client.since))
    server = _made_before(flow)
    if server is not None:
        start = server.since
    saved = _new_saved(flow, client, start, request.monotonic)
    if server is not None:
        server.charged_to = saved["id"]
        saved["connecting"] = server.steps(start.monotonic)
    return Transaction(flow, client, saved, start, server)


def _made_before(flow: http.HTTPFlow) -> Server | None:
    """Return the connection that is there for a request which has just come, and that no entry accounts for.

    One that has failed will fail the request too.
    """
    if not (flow.server_conn.connected or flow.server_conn.error):
        return None
    server = server_of(flow.server_conn)
    return server if server is not None and server.connected is not None and server.charged_to is None else None


def _new_saved(flow: http.HTTPFlow, client: Client, start: Now, request_start: float) -> Saved:
    stream = stream_of(flow.request)
    saved = saving.begun(client.timeline.place(start), client.saved)
    saved["request_start"] = request_start - start.monotonic
    if stream is not None:
        saved["stream"], saved["pseudo"] = stream.id, stream.pseudo_names
    if stream is not None and stream.is_pushed:
        saved["pushed"] = True
    return saved


def _since(start: Now, wall: float | None) -> float:
    """Return the offset of something that mitmproxy has noted on the wall clock a little while ago, or of now."""
    at = now()
    return (at.monotonic if wall is None else at.monotonic_of(wall, start)) - start.monotonic


def _address(peer: tuple[str, int] | None) -> Address | None:
    return (peer[0], peer[1]) if peer else None
