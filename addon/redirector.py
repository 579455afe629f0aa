"""What the redirector of mitmproxy's local mode tells of the process whose connection it has redirected."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mitmproxy import ctx
from mitmproxy.proxy import mode_specs

from rpc import records

if TYPE_CHECKING:
    from mitmproxy import connection

SEPARATORS = re.compile(r"[/\\]")


def redirected_process(conn: connection.Client) -> records.Process | None:
    """Return the process of a connection in local mode; null in other modes, and on Linux, where it is not told."""
    if not isinstance(conn.proxy_mode, mode_specs.LocalMode):
        return None
    handler = ctx.master.addons.get("proxyserver").connections.get(conn.id)
    stream = handler.transports[conn].writer if handler and conn in handler.transports else None
    # Without a default, what is not told is a KeyError.
    if stream is None or not (pid := stream.get_extra_info("pid", 0)):
        return None
    path = stream.get_extra_info("process_name", "") or ""
    return records.Process(pid, SEPARATORS.split(path)[-1] or None)
