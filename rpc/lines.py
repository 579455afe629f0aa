"""Entries and WebSocket messages as lines for a terminal.

Pure: what comes from the network is shown so that it cannot move the cursor, or change anything else of the terminal.
"""

from __future__ import annotations

from datetime import datetime

from rpc.schema import Binary, Close, EntrySummary, Text, WebSocketMessage

RED, GREEN, YELLOW, CYAN, DIM = 31, 32, 33, 36, 2
"""Of ECMA-48's codes for "select graphic rendition"."""

STATUS_COLOURS = {1: DIM, 2: GREEN, 3: CYAN, 4: YELLOW, 5: RED}
"""By the first digit of the status code."""

UNITS = ("B", "kB", "MB", "GB")
STEP = 1000

SECOND = 1000
"""Milliseconds above which a duration is shown in seconds."""

ARROWS = {"client": "→", "server": "←"}


def safe(text: str) -> str:
    """Return text with everything that is not printable escaped."""
    return text if text.isprintable() else "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _coloured(text: str, colour: int, *, colours: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colours else text


def clock(instant: str | None) -> str:
    """Return the local time of day of an instant, to the millisecond."""
    if instant is None:
        return "-"
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M:%S.%f")[:-3]


def size(count: int | None) -> str:
    """Return a number of bytes, three digits of it."""
    if count is None:
        return "-"
    value, units = float(count), iter(UNITS)
    unit = next(units)
    while value >= STEP and (larger := next(units, None)) is not None:
        value, unit = value / STEP, larger
    return f"{count} {unit}" if unit == UNITS[0] else f"{value:.3g} {unit}"


def duration(milliseconds: int | None) -> str:
    """Return a duration."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds} ms" if milliseconds < SECOND else f"{milliseconds / SECOND:.1f} s"


def entry_line(entry: EntrySummary, *, colours: bool = False) -> str:
    """Return time, method, status, size, duration and URL of an entry, and why it has failed."""
    status = "-" if entry.status_code is None else str(entry.status_code)
    colour = RED if entry.status_code is None else STATUS_COLOURS.get(entry.status_code // 100, RED)
    columns = (
        _coloured(clock(entry.started_at), DIM, colours=colours),
        f"{safe(entry.method or '-'):6}",
        _coloured(f"{status:>3}", colour, colours=colours),
        f"{size(entry.response_body_size):>8}",
        f"{duration(entry.duration):>8}",
        safe(entry.url),
    )
    reason = () if entry.error is None else (_coloured(f"({safe(entry.error)})", RED, colours=colours),)
    return "  ".join((*columns, *reason))


def message_line(message: WebSocketMessage, *, colours: bool = False) -> str:
    """Return time, direction, type and content of a WebSocket message."""
    time = _coloured(clock(message.ended_at), DIM, colours=colours)
    return f"{time}  {ARROWS[message.side]} {message.payload.type:6}  {_content(message.payload)}"


def _content(payload: Text | Binary | Close) -> str:
    if isinstance(payload, Text):
        return safe(payload.text)
    if isinstance(payload, Close):
        return safe(f"{payload.code} {payload.reason}".rstrip())
    return payload.data
