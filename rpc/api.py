"""The whole API over one store: its methods in one dispatcher, and its subscriptions."""

from __future__ import annotations

from typing import NamedTuple

from rpc import openrpc
from rpc.jsonrpc import Dispatcher
from rpc.methods import Methods
from rpc.recording import Recording
from rpc.records import Limits
from rpc.store import Store
from rpc.subscriptions import Subscriptions

USUAL = Limits()
"""The limits if nothing is said."""


class Api(NamedTuple):
    """What an endpoint serves."""

    dispatcher: Dispatcher
    subscriptions: Subscriptions


def api(store: Store, recording: Recording | None, limits: Limits = USUAL) -> Api:
    """Return the API over a store, and over the session that is being captured, if there is one."""
    subscriptions = Subscriptions(store, recording)
    methods = [*Methods(store, recording).all(), *subscriptions.methods(), *openrpc.methods()]
    return Api(Dispatcher(methods, batch=limits.batch, depth=limits.depth), subscriptions)
