"""The last addon in the chain: it sees what every other one has decided, and tells the child of it.

Each hook copies references into records and returns; it waits only while the child is far behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from addon import http_layers, transactions
from addon.bodies import Body, Chunk
from addon.captures import Captures
from addon.clients import Clients
from addon.conversations import Conversation, kept_close, kept_message, replayed, tell
from addon.faults import guarded
from addon.servers import Servers, server_of
from addon.transactions import Transaction, response_parts
from rpc import records
from rpc.records import CHUNK_SIZE, Fields, MessageReceived, Side

if TYPE_CHECKING:
    from mitmproxy import connection, http, tls
    from mitmproxy.proxy.layer import NextLayer
    from mitmproxy.proxy.layers.quic import QuicTlsData
    from mitmproxy.proxy.server_hooks import ServerConnectionHookData

    from addon.link import Link
    from addon.sending import Answer

type Wait = Awaitable[None] | None


class Recorder:
    """What is told to the child through `link`."""

    name = "entries-recorder"

    def __init__(self, link: Link) -> None:
        self._link = link
        self._clients = Clients(link)
        self._servers = Servers()
        self._captures = Captures(self._clients)
        link.on_process = self._clients.set_process
        link.on_gathered = self._tell_arrived
        link.on_gap = self._clients.tell_anew
        self._open: dict[str, Transaction] = {}
        self._arriving: set[Body] = set()

    def body_of(self, flow: http.HTTPFlow, side: Side) -> Body | None:
        """Return a body of an exchange that goes on; null for one that is not recorded."""
        transaction = self._open.get(flow.id)
        return None if transaction is None else transaction.bodies[side]

    @guarded
    def body_arrived(self, body: Body) -> None:
        """More of a body has arrived. The child is told with what else gathers, unless the body is complete by then."""
        if body.is_ripe:
            self._tell_chunk(body)
        elif body not in self._arriving:
            self._arriving.add(body)
            self._link.gather()

    def reading_room(self) -> Wait:
        """Return what to wait for before more is read from any connection; null if there is no need."""
        return self._link.room()

    @guarded
    def client_connected(self, client: connection.Client) -> None:
        """A client has connected."""
        self._clients.connected(client)

    @guarded
    def client_disconnected(self, client: connection.Client) -> None:
        """A client has disconnected."""
        self._clients.disconnected(client)

    @guarded
    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """A client has begun a TLS handshake."""
        self._clients.begin_tls(data)

    @guarded
    def tls_established_client(self, data: tls.TlsData) -> None:
        """The handshake with a client is done."""
        self._clients.of(data.context.client).finish_tls()

    @guarded
    def next_layer(self, nextlayer: NextLayer) -> None:
        """The next protocol on a connection is decided."""
        http_layers.tap(nextlayer.layer, on_http2=self._http2_begins, on_dropped=self._flow_is_over)

    @guarded
    def server_connect(self, data: ServerConnectionHookData) -> None:
        """A connection to a server is wanted."""
        self._servers.queued(data)

    @guarded
    def server_connected(self, data: ServerConnectionHookData) -> None:
        """A connection to a server is up."""
        self._servers.connected(data)

    @guarded
    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        """A connection to a server could not be made."""
        self._servers.failed(data)

    @guarded
    def tls_start_server(self, data: tls.TlsData) -> None:
        """The TLS handshake with a server begins."""
        self._servers.securing(data)

    @guarded
    def quic_start_server(self, data: QuicTlsData) -> None:
        """The QUIC handshake with a server, of which TLS is a part, begins."""
        self._servers.securing(data)

    @guarded
    def tls_established_server(self, data: tls.TlsData) -> None:
        """The TLS handshake with a server is done."""
        self._servers.secured(data)

    @guarded
    def tls_failed_server(self, data: tls.TlsData) -> None:
        """The TLS handshake with a server has failed."""
        self._servers.secured(data)

    @guarded
    def http_connect_upstream(self, flow: http.HTTPFlow) -> None:
        """An upstream proxy is asked for a tunnel."""
        self._servers.tunnelling(flow)

    @guarded
    def connection_answered(self, flow: http.HTTPFlow, answer: Answer) -> None:
        """A request has got a connection, and is sent on, or has not got one."""
        if (transaction := self._open.get(flow.id)) is None:
            return
        if answer.granted is not None:
            transaction.see_sending(answer.server())
        else:
            transaction.see_refusal(answer.server())

    @guarded
    def requestheaders(self, flow: http.HTTPFlow) -> Wait:
        """Every addon has seen the request's headers."""
        transaction = self._transaction(flow)
        if flow.intercepted:
            return self._released(transaction)
        transaction.see_release()
        return self._link.room()

    @guarded
    def request(self, flow: http.HTTPFlow) -> Wait:
        """The request is complete."""
        transaction = self._transaction(flow)
        if transaction.is_cut_off and transaction.saved["request_end"] is None:
            return self._send_rest(transaction.bodies["request"].rest(flow.request.data.content or b""))
        transaction.see_request_end()
        waiting = self._tell_request(transaction)
        if transaction.is_replayed and flow.response is None and flow.error is None:
            self._tell_end(transaction)
        return waiting

    @guarded
    def responseheaders(self, flow: http.HTTPFlow) -> Wait:
        """Response headers have arrived."""
        transaction = self._transaction(flow)
        if flow.response is not None:
            transaction.see_response_start(flow.response)
            self._tell_response_start(transaction, flow.response)
        return self._link.room()

    @guarded
    def response(self, flow: http.HTTPFlow) -> Wait:
        """The response is complete."""
        transaction = self._transaction(flow)
        if transaction.is_cut_off and flow.response is not None:
            return self._send_rest(transaction.bodies["response"].rest(flow.response.data.content or b""))
        return self._tell_response(transaction)

    @guarded
    def error(self, flow: http.HTTPFlow) -> None:
        """The transaction has failed."""
        self._tell_failure(self._transaction(flow))

    @guarded
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Every addon has seen a CONNECT. One that was killed fails here: no later hook tells of it."""
        if flow.error is None:
            return
        transaction = self._begin(flow)
        transaction.see_request_end()
        transaction.see_failure()
        self._tell_request(transaction)
        self._tell_failure(transaction)

    @guarded
    def http_connect_error(self, flow: http.HTTPFlow) -> Wait:
        """A CONNECT has failed: the one kind of CONNECT that is an entry. The proxy itself has answered it."""
        transaction = self._begin(flow)
        transaction.see_request_end()
        transaction.see_refusal(server_of(flow.server_conn))
        transaction.see_failure()
        transaction.see_response_end()
        self._tell_request(transaction)
        if flow.response is not None:
            self._tell_response_start(transaction, flow.response)
        return self._tell_response(transaction)

    def converse(self, flow: http.HTTPFlow, *, trims: bool) -> Conversation:
        """Begin the conversation of a live WebSocket, which is told of all that it says."""
        transaction = self._transaction(flow)
        transaction.conversation = Conversation(transaction, self._link, trims=trims)
        return transaction.conversation

    @guarded
    def entries_room(self, waiting: Awaitable[None]) -> Wait:
        """A WebSocket has to wait."""
        return waiting

    @guarded
    def websocket_message(self, flow: http.HTTPFlow) -> Wait:
        """A WebSocket message is complete: one that no conversation has taken in is told as mitmproxy keeps it."""
        transaction = self._transaction(flow)
        if transaction.conversation is not None or transaction.is_replayed or flow.websocket is None:
            return None
        return self._tell_messages((kept_message(transaction.id, flow.websocket.messages[-1]),))

    @guarded
    def websocket_end(self, flow: http.HTTPFlow) -> Wait:
        """A WebSocket has ended."""
        transaction = self._transaction(flow)
        if transaction.is_replayed:
            return self._tell_messages(replayed(transaction), ended=transaction)
        if transaction.conversation is None and flow.websocket is not None:
            close = kept_close(transaction.id, flow.websocket)
            return self._tell_messages((close,) if close else (), ended=transaction)
        self._tell_end(transaction)
        return None

    def begin(self, flow: http.HTTPFlow) -> None:
        """Begin an entry: request headers have arrived. This comes before the addons that may hold them."""
        self._begin(flow)

    def seal_response(self, flow: http.HTTPFlow) -> Transaction:
        """Complete what a flow saves with its response; this comes before any addon that may write it."""
        transaction = self._transaction(flow)
        transaction.see_response_end()
        transaction.see_streamed()
        return transaction

    def seal_failure(self, flow: http.HTTPFlow) -> Transaction:
        """Complete what a flow saves with its failure; this comes before any addon that may write it."""
        transaction = self._transaction(flow)
        transaction.see_failure()
        return transaction

    @guarded
    def _http2_begins(self, client: connection.Client) -> None:
        self._clients.of(client).begin_http2()

    @guarded
    def _flow_is_over(self, flow: http.HTTPFlow) -> None:
        """End what no hook has ended: a request that went on, or was broken off, after its response."""
        if (transaction := self._open.get(flow.id)) is not None:
            self._tell_rest(transaction)
            self._tell_end(transaction)

    async def _released(self, transaction: Transaction) -> None:
        """Wait with the flow until it is let go, to see when that is."""
        await transaction.flow.wait_for_resume()
        transaction.see_release()
        if (room := self._link.room()) is not None:
            await room

    def _transaction(self, flow: http.HTTPFlow) -> Transaction:
        return self._open.get(flow.id) or self._begin(flow)

    def _begin(self, flow: http.HTTPFlow) -> Transaction:
        if flow.live:
            client = self._clients.of(flow.client_conn)
            transaction = transactions.begin(flow, client)
        else:
            transaction = self._captures.transaction(flow)
            client = transaction.client
        self._open[flow.id] = transaction
        client.tell(self._link)
        self._tell_start(transaction)
        return transaction

    def _end(self, transaction: Transaction) -> None:
        self._open.pop(transaction.flow.id, None)
        self._arriving.difference_update(transaction.bodies.values())
        if transaction.is_replayed:
            self._link.send(records.ClientDisconnected(transaction.client.key))

    def _tell_end(self, transaction: Transaction) -> None:
        self._link.send(records.EntryEnded(transaction.id))
        self._end(transaction)

    async def _tell_messages(self, messages: Iterable[MessageReceived], ended: Transaction | None = None) -> None:
        for message in messages:
            for waiting in tell(self._link, message):
                await waiting
        if ended is not None:
            self._tell_end(ended)

    def _tell_start(self, transaction: Transaction) -> None:
        saved = transaction.saved
        self._link.send(
            records.EntryStarted(
                entry=transaction.id,
                connection=transaction.client.key,
                started=saved["started"],
                request_start=saved["request_start"],
                connecting=transaction.connecting,
                head=transaction.request_head(),
                stream=saved["stream"],
                pushed=transaction.is_pushed,
            )
        )

    def _tell_changed_request(self, transaction: Transaction) -> None:
        if transaction.request_has_changed():
            self._link.send(records.RequestChanged(transaction.id, transaction.request_head()))

    def _tell_request(self, transaction: Transaction) -> Wait:
        request = transaction.flow.request
        # mitmproxy gives a CONNECT no content; it cannot have any (RFC 9110 section 9.3.6).
        content = b"" if request.data.method == b"CONNECT" else request.data.content
        transaction.request_is_done = True
        self._tell_changed_request(transaction)
        return self._finish_body(
            transaction,
            "request",
            content,
            lambda body, size: records.RequestFinished(
                entry=transaction.id,
                at=transaction.saved["request_end"],
                body=body,
                size=size,
                trailers=_fields(request.trailers),
                released=transaction.saved["released"],
            ),
        )

    def _tell_response_start(self, transaction: Transaction, response: http.Response) -> None:
        # A person may have changed the request while it was held, after the hook that told of it.
        self._tell_changed_request(transaction)
        saved = transaction.saved
        self._link.send(
            records.ResponseStarted(
                entry=transaction.id,
                at=saved["response_start"],
                head=transaction.response_head(response),
                remote=saved["remote"],
                connecting=transaction.connecting,
                sent=saved["sent"],
            )
        )

    def _tell_response(self, transaction: Transaction) -> Wait:
        response = transaction.flow.response
        if response is None:
            return None
        is_changed = response_parts(response) != transaction.told_response
        is_websocket = transaction.flow.websocket is not None
        ended = transaction.request_is_done and not is_websocket
        if _is_killed(transaction.flow):
            # It will see no more hooks: not the end of a request that goes on, nor that of a WebSocket.
            self._tell_rest(transaction)
            ended = True
        waiting = self._finish_body(
            transaction,
            "response",
            response.data.content,
            lambda body, size: records.ResponseFinished(
                entry=transaction.id,
                at=transaction.saved["response_end"],
                head=transaction.response_head(response) if is_changed else None,
                body=body,
                size=size,
                trailers=_fields(response.trailers),
                websocket=is_websocket,
                ended=ended,
            ),
        )
        if ended:
            self._end(transaction)
        return waiting

    def _tell_failure(self, transaction: Transaction) -> None:
        self._tell_changed_request(transaction)
        self._tell_rest(transaction)
        error, saved = transaction.flow.error, transaction.saved
        self._link.send(
            records.EntryFailed(
                entry=transaction.id,
                at=saved["failed"],
                message=error.msg if error else "",
                remote=saved["remote"],
                connecting=transaction.connecting,
                sent=saved["sent"],
            )
        )
        self._end(transaction)

    def _finish_body(
        self,
        transaction: Transaction,
        side: Side,
        content: bytes | None,
        finished: Callable[[bytes | None, int | None], records.Captured],
    ) -> Wait:
        """Send what is not told of a body, and the record that ends it: the body goes along with that if it fits."""
        body = transaction.bodies[side]
        self._arriving.discard(body)
        if body.is_streamed:
            self._tell_chunk(body)
            self._link.send(finished(None, body.size))
        elif content is None:
            self._link.send(finished(None, transaction.size_of(side)))
        elif body.told or len(content) > CHUNK_SIZE:
            return self._send_rest(body.rest(content), finished(None, len(content)))
        else:
            self._link.send(finished(content, len(content)), len(content))
        return self._link.room()

    async def _send_rest(self, rest: Iterator[Chunk], last: records.Captured | None = None) -> None:
        for chunk in rest:
            self._link.send(*chunk)
            if (room := self._link.room()) is not None:
                await room
        if last is not None:
            self._link.send(last)

    def _tell_rest(self, transaction: Transaction) -> None:
        """Tell what has arrived of bodies that will not be complete."""
        for body in transaction.bodies.values():
            self._tell_chunk(body)

    def _tell_chunk(self, body: Body) -> None:
        if (chunk := body.take()) is not None:
            self._link.send(*chunk)

    def _tell_arrived(self) -> None:
        """Tell of what has arrived of bodies that are not complete."""
        for body in self._arriving:
            self._tell_chunk(body)
        self._arriving.clear()


def _is_killed(flow: http.HTTPFlow) -> bool:
    return flow.error is not None and flow.error.msg == flow.error.KILLED_MESSAGE


def _fields(headers: http.Headers | None) -> Fields:
    return headers.fields if headers is not None else ()
