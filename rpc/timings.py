"""The phases of an entry (HAR 1.2 names and meaning), from the instants at which things were seen to happen.

The entry's span is cut at every known instant, and each piece belongs to exactly one phase: so phases never overlap,
and their sum is the span. Pure functions of offsets in seconds from the entry's start.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from rpc.records import Connecting

NOT_CONNECTING = Connecting()

STEPS: tuple[tuple[str, str], ...] = (
    ("queued", "blocked"),
    ("opened", "connect"),
    ("resolving", "dns"),
    ("resolved", "connect"),
    ("connected", "blocked"),
    ("securing", "ssl"),
)
"""Which phase begins with which step of connecting; the last step ends them all."""


class Instants(msgspec.Struct, array_like=True):
    """What is known so far: request and response, first and last byte; the connection's making; the entry's end."""

    request_start: float | None = None
    request_end: float | None = None
    response_start: float | None = None
    response_end: float | None = None
    failed: float | None = None
    connecting: Connecting | None = None


def _connecting_phases(connecting: Connecting | None) -> list[tuple[float, str]]:
    """Return when which phase of connecting begins, in order of time; an empty phase marks the end of connecting."""
    if connecting is None:
        return []
    begins = [(at, phase) for step, phase in STEPS if (at := getattr(connecting, step)) is not None]
    done = connecting.secured if connecting.securing is not None else connecting.connected
    if done is not None:
        begins.append((done, ""))
    return sorted(begins, key=lambda begin: begin[0])


def _exchange_phase(instants: Instants, at: float) -> str:
    """Return the phase at an instant, as far as request and response tell."""
    if instants.response_start is not None and at >= instants.response_start:
        return "receive"
    if instants.request_start is not None and at < instants.request_start:
        return "blocked"
    if instants.request_end is None or at < instants.request_end:
        return "send"
    return "wait"


def _phase(instants: Instants, begins: list[tuple[float, str]], at: float) -> str:
    """Return the phase at an instant."""
    begun = [phase for begin, phase in begins if begin <= at]
    if begun and begun[-1]:
        return begun[-1]
    phase = _exchange_phase(instants, at)
    is_yet_to_connect = bool(begins) and not begun
    return "blocked" if phase == "wait" and is_yet_to_connect else phase


def _happened(instants: Instants) -> set[str]:
    """Return the phases that are known to have happened, however short."""
    connecting = instants.connecting or NOT_CONNECTING
    facts = {
        "dns": connecting.resolved,
        "connect": connecting.connected,
        "ssl": connecting.secured,
        "send": instants.request_end if instants.request_start is not None else None,
        "wait": instants.response_start if instants.request_end is not None else None,
        "receive": instants.response_end if instants.response_start is not None else None,
    }
    return {phase for phase, at in facts.items() if at is not None}


def _known_instants(instants: Instants, begins: list[tuple[float, str]]) -> list[float]:
    exchange = (
        instants.request_start,
        instants.request_end,
        instants.response_start,
        instants.response_end,
        instants.failed,
    )
    end = instants.response_end if instants.failed is None else instants.failed
    known = sorted({at for at in exchange if at is not None} | {at for at, _ in begins})
    return known if end is None else [at for at in known if at <= end]


def phases(instants: Instants) -> dict[str, int]:
    """Return the phases that are over, in whole milliseconds: the difference of two offsets, each rounded down.

    `ssl` is contained in `connect`; the others are disjoint. A phase that did not happen or is not over is left out.
    """
    begins = _connecting_phases(instants.connecting)
    spent = dict.fromkeys(_happened(instants), 0)
    for start, end in pairwise(_known_instants(instants, begins)):
        phase = _phase(instants, begins, start)
        spent[phase] = spent.get(phase, 0) + int(end * 1000) - int(start * 1000)
    if "ssl" in spent:
        spent["connect"] = spent.get("connect", 0) + spent["ssl"]
    return spent
