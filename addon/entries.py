"""The script for mitmproxy: options, start and end.

Run `mitmdump -s addon/entries.py`; the README says what it does. What it records is `recorder.py`'s work.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Awaitable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.proxy import layers
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.utils.human import parse_size

from addon import access, limits
from addon.bodies import tapped_stream
from addon.conversations import Conversation
from addon.eventstream import keep_events, stream_events
from addon.faults import guarded
from addon.frames import tapped
from addon.ids import new_id
from addon.layers import replaced
from addon.link import ChildError, Link, logger
from addon.mending import is_text, mended
from addon.push import PushingHttp2Client, push_supported
from addon.recorder import Recorder
from addon.resolver import time_resolving
from addon.sending import timed_http2_client, timed_stream
from addon.throttle import throttled
from addon.trailers import trailers_supported
from addon.transactions import Transaction
from rpc import records

FOLDER_BYTES = 16
MIN_DISK = 1024 * 1024
TEMPORARY_DISK = 4 * 1024**3
"""What a temporary store may take if nothing is said."""

OPTIONS: tuple[tuple[str, type, object, str], ...] = (
    *access.OPTIONS,
    *limits.OPTIONS,
    (
        "entries_store",
        str,
        "",
        "File that keeps the recorded entries and collects sessions; empty: a private temporary file, gone at exit.",
    ),
    (
        "entries_max_disk",
        str,
        "",
        "What the store may take on the disk, such as 500m or 4g: beyond it the oldest bodies and WebSocket messages"
        " are given up. Empty: 4g for a temporary store, no limit for entries_store.",
    ),
    (
        "entries_stream_sse",
        bool,
        True,
        "Pass text/event-stream responses on as they come; mitmproxy otherwise holds them back until they end.",
    ),
    ("entries_session_name", str, "", "Name of the recorded session; empty: date and time."),
    (
        "entries_trim_websocket",
        bool,
        False,
        "Let mitmproxy keep only the latest message of each WebSocket, so that long-lived ones take no memory.",
    ),
)


class Entries:
    """The addon: it owns the child process and the recorder that feeds it."""

    def __init__(self) -> None:
        self._is_running = False
        self._support = ExitStack()
        self._link = Link()
        self._recorder = Recorder(self._link)

    def load(self, loader: Loader) -> None:
        """Declare the options."""
        for name, kind, default, explanation in OPTIONS:
            loader.add_option(name, kind, default, explanation)
        _convert_options()

    def configure(self, updated: set[str]) -> None:
        """Check the options. Raises `OptionsError`."""
        changed = [name for name, *_ in OPTIONS if name in updated]
        if self._is_running and changed:
            raise OptionsError(f"{changed[0]} cannot be changed while entries are recorded.")
        _check_options()

    def running(self) -> Awaitable[None]:
        """Start recording. Not `async` itself: mitmproxy calls it without awaiting it when a script is reloaded."""
        self._is_running = True
        for supported in self._supported():
            self._support.enter_context(supported)
        time_resolving(asyncio.get_running_loop())
        ctx.master.addons.add(self._recorder)
        return asyncio.create_task(self._start())

    def done(self) -> Awaitable[None]:
        """End recording: everything is stored when what is returned is done."""
        if self._is_running:
            ctx.master.addons.remove(self._recorder)
        self._support.close()
        return self._link.end()

    @guarded
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Begin the flow's entry, before other addons hold it."""
        self._recorder.begin(flow)

    @guarded
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Let an event stream pass as it comes."""
        if ctx.options.entries_stream_sse:
            stream_events(flow, keep=bool(ctx.options.save_stream_file))

    @guarded
    def response(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        """Complete what the flow saves, before it is written."""
        keep_events(flow)
        return _until_complete(self._recorder.seal_response(flow))

    @guarded
    def error(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        """Complete what the flow saves, before it is written."""
        return _until_complete(self._recorder.seal_failure(flow))

    def _converse(self, flow: http.HTTPFlow) -> Conversation:
        return self._recorder.converse(flow, trims=ctx.options.entries_trim_websocket)

    def _supported(self) -> tuple[AbstractContextManager[None], ...]:
        """Return what mitmproxy does otherwise while entries are recorded."""
        stream = timed_stream(tapped_stream(self._recorder), self._recorder.connection_answered)
        return (
            trailers_supported(),
            push_supported(),
            replaced(http_layers, {"HttpStream": stream, "Http2Client": timed_http2_client(PushingHttp2Client)}),
            replaced(layers.websocket, {"WebsocketLayer": tapped(self._converse)}),
            throttled(self._recorder.reading_room),
        )

    async def _start(self) -> None:
        configuration = _configuration()
        try:
            port = await self._link.start(configuration)
        except ChildError as error:
            # mitmdump ends with a non-zero exit code on what is logged as an error while it starts.
            logger.error(str(error))
            return
        for warning in access.warnings(ctx.options):
            logger.warning(warning)
        print(f"Entries endpoint: {configuration.url(port)}?token={configuration.token}", flush=True)
        self._link.send(records.ListenerChanged(_listener_port()))


def _until_complete(transaction: Transaction) -> Awaitable[object] | None:
    """Return what to wait for before the flow may be written: only with `-w` does anything come too late otherwise."""
    return transaction.client.process_answer() if ctx.options.save_stream_file else None


def _convert_options() -> None:
    """Convert what the command line says of our options. Left to mitmproxy, a failure would end the script silently."""
    try:
        ctx.options.process_deferred()
    except OptionsError as error:
        logger.error(str(error))
        raise


def _check_options() -> None:
    access.check(ctx.options)
    limits.limits(ctx.options)
    for name in ("rpc_listen_host", "rpc_tls_cert", "rpc_tls_key", "entries_store", "confdir"):
        if not is_text(getattr(ctx.options, name)):
            raise OptionsError(f"{name} must be UTF-8.")
    _max_disk()


def _max_disk() -> int | None:
    """Return how many bytes the store may take; null: all there are. Raises `OptionsError`."""
    said = ctx.options.entries_max_disk
    if not said:
        return None if ctx.options.entries_store else TEMPORARY_DISK
    try:
        size = parse_size(said)
    except ValueError:
        size = None
    if size is None or size < MIN_DISK:
        message = f"entries_max_disk must be a size of 1m or more, such as 500m or 4g, not {said!r}."
        raise OptionsError(message)
    return size


def _store() -> Path:
    """Return where the store is: where it was said, or in a private folder of which nobody can guess the name."""
    if ctx.options.entries_store:
        return Path(ctx.options.entries_store).expanduser().absolute()
    return Path(tempfile.gettempdir()).absolute() / f"entries-{secrets.token_hex(FOLDER_BYTES)}" / "entries.db"


def _configuration() -> records.Configuration:
    options = ctx.options
    started = time.time()
    name = mended(options.entries_session_name) or time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
    return records.Configuration(
        host=options.rpc_listen_host,
        port=options.rpc_listen_port,
        token=access.token(options),
        store=str(_store()),
        session=records.SessionOpened(id=new_id(), name=name, started=started),
        is_temporary=not options.entries_store,
        max_disk=_max_disk(),
        access=access.access(options),
        limits=limits.limits(options),
    )


def _listener_port() -> int | None:
    """Return the port that the proxy listens on; the first one, if it is several."""
    proxyserver = ctx.master.addons.get("proxyserver")
    addresses = proxyserver.listen_addrs() if proxyserver else []
    return addresses[0][1] if addresses else None


addons = [Entries()]
