"""What clients of the endpoint may take: each limit is an option, with its unit, its default and its least value."""

from __future__ import annotations

from typing import NamedTuple

from mitmproxy.exceptions import OptionsError
from mitmproxy.optmanager import OptManager
from mitmproxy.utils.human import parse_size

from rpc.records import Limits

DEFAULTS = Limits()
KIB = 1024


class Limit(NamedTuple):
    """An option and the field of `Limits` that it sets; a size is given as text such as 500k or 4m."""

    option: str
    field: str
    least: int
    explanation: str
    is_size: bool = False

    @property
    def default(self) -> int | str:
        """The option's default, of the option's type."""
        default: int = getattr(DEFAULTS, self.field)
        return f"{default // KIB // KIB}m" if self.is_size else default


LIMITS = (
    Limit("rpc_max_connections", "connections", 1, "Clients that the endpoint serves at a time."),
    Limit(
        "rpc_max_requests",
        "requests",
        1,
        "Messages of one client that may wait to be answered; beyond them, no more are read from it.",
    ),
    Limit("rpc_max_batch", "batch", 1, "Requests that one message may hold."),
    Limit("rpc_max_depth", "depth", 8, "Arrays and objects that a message may have one in the other."),
    Limit("rpc_max_message", "message", 4 * KIB, "Bytes of a client's message, such as 1m.", is_size=True),
    Limit(
        "rpc_max_unread",
        "unread",
        64 * KIB,
        "What may wait of notifications for a client that does not read them; then it is told what it misses.",
        is_size=True,
    ),
    Limit("rpc_open_timeout", "open_seconds", 2, "Seconds that a client has for its opening handshakes."),
    Limit(
        "rpc_idle_timeout",
        "idle_seconds",
        30,
        "Seconds that a client may neither send nor read a byte; those that are there answer pings.",
    ),
)

OPTIONS: tuple[tuple[str, type, object, str], ...] = tuple(
    (limit.option, str if limit.is_size else int, limit.default, limit.explanation) for limit in LIMITS
)


def limits(options: OptManager) -> Limits:
    """Return the limits that the options say. Raises `OptionsError`."""
    return Limits(**{limit.field: _value(limit, getattr(options, limit.option)) for limit in LIMITS})


def _value(limit: Limit, said: int | str) -> int:
    value = _size(said) if isinstance(said, str) else said
    if value is None or value < limit.least:
        least = f"a size of {limit.least // KIB}k" if limit.is_size else str(limit.least)
        raise OptionsError(f"{limit.option} must be {least} or more, not {said!r}.")
    return value


def _size(said: str) -> int | None:
    try:
        return parse_size(said or None)
    except ValueError:
        return None
