"""One HTTP transaction as its flow goes through the hooks: what it saves, and what the child has been told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from addon import saved as saving
from addon.bodies import Body
from addon.clock import Now, now
from addon.ids import new_id
from addon.saved import Saved
from addon.servers import find, find_attempt
from addon.streams import stream_of
from rpc.records import Address, Connecting, Fields, RequestHead, ResponseHead, Side

if TYPE_CHECKING:
    from mitmproxy import http

    from addon.clients import Client
    from addon.conversations import Conversation
    from addon.servers import Server

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

    def __init__(self, flow: http.HTTPFlow, client: Client, saved: Saved, zero: float | None) -> None:
        self.flow = flow
        self.client = client
        self.saved = saved
        self.id = saved["id"]
        self.told_request: RequestParts | None = None
        self.bodies: dict[Side, Body] = {"request": Body(self.id, "request"), "response": Body(self.id, "response")}
        self.told_response: ResponseParts | None = None
        self.request_is_done = False
        self.conversation: Conversation | None = None
        self._zero = zero
        flow.metadata[saving.KEY] = saved

    @property
    def is_replayed(self) -> bool:
        """Whether this comes out of a saved capture."""
        return self._zero is None

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
        """Whether the request's head differs from what was told."""
        return request_parts(self.flow.request) != self.told_request

    def response_head(self, response: http.Response) -> ResponseHead:
        """Return the response's head as it is now, and remember that it is told."""
        self.told_response = response_parts(response)
        return ResponseHead(*self.told_response)

    def see_request_end(self) -> None:
        """Take in that the request is complete. A promise is whole from the start."""
        if self._zero is not None:
            is_pushed, end = self.is_pushed, self.flow.request.timestamp_end
            self.saved["request_end"] = self.saved["request_start"] if is_pushed else _since(self._zero, end)

    def see_response_start(self, response: http.Response) -> None:
        """Take in that response headers have arrived, and over which connection."""
        if self._zero is None:
            return
        self.saved["response_start"] = _since(self._zero, response.timestamp_start)
        self.saved["remote"] = _address(self.flow.server_conn.peername)
        if (server := find(self.client, self.flow.server_conn)) is not None:
            self._account_for(server, self._zero)

    def see_response_end(self) -> None:
        """Take in that the response is complete."""
        if self._zero is not None and self.flow.response is not None:
            self.saved["response_end"] = _since(self._zero, self.flow.response.timestamp_end)

    def see_failure(self) -> None:
        """Take in that the transaction has ended without a complete response."""
        if self._zero is None:
            return
        self.saved["failed"] = _since(self._zero, None)
        if (server := self._server_waited_for()) is not None:
            self._account_for(server, self._zero)
            self.saved["remote"] = _address(server.conn.peername)

    def _server_waited_for(self) -> Server | None:
        """Return the connection that was used, else the attempt at one: mitmproxy joins only those that succeeded."""
        server = find(self.client, self.flow.server_conn)
        if server is not None and (server.charged_to is self or server.connected is not None):
            return server
        return find_attempt(self.client, self.flow.request.host, self.flow.request.port)

    def _account_for(self, server: Server, zero: float) -> None:
        """Account for the making of a connection, once: by the first of the transactions that waited for it."""
        if server.charged_to is None:
            open_now = self.client.open.values()
            waited = (other for other in open_now if find(self.client, other.flow.server_conn) is server)
            server.charged_to = next(waited, self)
        if server.charged_to is self:
            self.saved["connecting"] = server.steps(zero)


def begin(flow: http.HTTPFlow, client: Client) -> Transaction:
    """Return the transaction of a live flow whose request headers have just arrived.

    Where the proxy had connected to the server before, and no other transaction accounts for that, it starts there.
    """
    at = now()
    request_start = at.monotonic_of(flow.request.timestamp_start)
    start = Now(flow.request.timestamp_start, request_start)
    server = find(client, flow.server_conn)
    if server is not None and (server.charged_to is not None or server.connected is None):
        server = None
    if server is not None:
        start = server.began
    stream = stream_of(flow.request)
    saved = Saved(
        version=saving.VERSION,
        id=new_id(),
        started=start.wall,
        client=client.saved,
        stream=stream.id if stream else None,
        pseudo=stream.pseudo_names if stream else None,
        remote=None,
        request_start=request_start - start.monotonic,
        request_end=None,
        response_start=None,
        response_end=None,
        failed=None,
        connecting=server.steps(start.monotonic) if server else None,
    )
    if stream is not None and stream.is_pushed:
        saved["pushed"] = True
    transaction = Transaction(flow, client, saved, start.monotonic)
    if server is not None:
        server.charged_to = transaction
    return transaction


def _since(zero: float, wall: float | None) -> float:
    """Return the offset of something that mitmproxy has noted on the wall clock a little while ago, or of now."""
    at = now()
    return (at.monotonic if wall is None else at.monotonic_of(wall)) - zero


def _address(peer: tuple[str, int] | None) -> Address | None:
    return (peer[0], peer[1]) if peer else None
