"""Flows out of saved captures: what they have kept of their recording, or else what mitmproxy's own facts support."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from addon import saved as saving
from addon.saved import Saved
from addon.transactions import Transaction

if TYPE_CHECKING:
    from mitmproxy import connection, http

    from addon.clients import Clients

CONNECTIONS_REMEMBERED = 4096
"""Server connections of which it is known that an earlier flow accounts for them."""


class Captures:
    """What was loaded from files."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._accounted: OrderedDict[str, None] = OrderedDict()

    def transaction(self, flow: http.HTTPFlow) -> Transaction:
        """Return the transaction of a loaded flow."""
        kept = saving.read(flow)
        client = self._clients.replayed(flow.client_conn, kept["client"] if kept else None)
        saved = kept or self._reconstruct(flow, client.saved)
        return Transaction(flow, client, saved, None)

    def _reconstruct(self, flow: http.HTTPFlow, client: saving.SavedClient) -> Saved:
        """Return what mitmproxy's own facts support; of a HAR file it keeps one instant, and makes up the others."""
        saved = saving.begun(flow.request.timestamp_start, client)
        saved["remote"] = flow.server_conn.address if is_har(flow) else flow.server_conn.peername
        if not is_har(flow):
            self._add_times(saved, flow)
        return saved

    def _add_times(self, saved: Saved, flow: http.HTTPFlow) -> None:
        zero = flow.request.timestamp_start
        saved["request_start"] = 0.0
        saved["request_end"] = _offset(flow.request.timestamp_end, zero)
        if flow.response is not None:
            saved["response_start"] = _offset(flow.response.timestamp_start, zero)
            saved["response_end"] = _offset(flow.response.timestamp_end, zero)
        if flow.error is not None and flow.websocket is None:
            saved["failed"] = _offset(flow.error.timestamp, zero)
        if flow.server_conn.timestamp_start is not None:
            saved["sent"] = _sent(saved, flow.server_conn, zero)
            if self._accounts_for(flow.server_conn):
                _add_connecting(saved, flow.server_conn, flow.server_conn.timestamp_start, zero)

    def _accounts_for(self, server: connection.Server) -> bool:
        """Return whether this is the first flow on a connection."""
        is_first = server.id not in self._accounted
        self._accounted[server.id] = None
        if len(self._accounted) > CONNECTIONS_REMEMBERED:
            self._accounted.popitem(last=False)
        return is_first


def _add_connecting(saved: Saved, server: connection.Server, opened: float, zero: float) -> None:
    """Add the making of the connection; the entry starts with it if it came before the request."""
    start = min(opened, zero)
    saved["started"] -= zero - start
    for step in ("request_start", "request_end", "sent", "response_start", "response_end", "failed"):
        if (at := saved[step]) is not None:
            saved[step] = at + zero - start
    connected, secured = _offset(server.timestamp_tcp_setup, start), _offset(server.timestamp_tls_setup, start)
    securing = connected if secured is not None else None
    saved["connecting"] = (None, opened - start, None, None, connected, securing, secured)


def _sent(saved: Saved, server: connection.Server, zero: float) -> float | None:
    """Return when the request can have been sent on: when it was complete, and the connection made; null if it was not.

    It may have been held in between. Of a request that was passed on as it came, this is its end.
    """
    if not server.timestamp_tcp_setup and saved["response_start"] is None:
        return None
    made = (_offset(server.timestamp_tcp_setup, zero), _offset(server.timestamp_tls_setup, zero))
    return max((at for at in (saved["request_end"], *made) if at is not None), default=None)


def is_har(flow: http.HTTPFlow) -> bool:
    """Return whether a flow was read from a HAR file: mitmproxy gives its client port 0."""
    return flow.client_conn.peername[1] == 0


def _offset(wall: float | None, zero: float) -> float | None:
    return None if wall is None else max(0.0, wall - zero)
