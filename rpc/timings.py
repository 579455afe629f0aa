"""The phases of an entry (HAR 1.2 names and meaning), from the instants at which things were seen to happen.

The entry's span is cut at every known instant, and each piece belongs to exactly one phase: so phases never overlap,
and their sum is the span. Pure functions of offsets in seconds from the entry's start.
"""

from __future__ import annotations

from math import inf

import msgspec

from rpc.records import Connecting

MAX_OFFSET = 1e12
"""Seconds. An offset beyond it (a damaged capture can hold any number) was not observed."""

EXCHANGE = ("request_start", "request_end", "response_start", "response_end", "failed")
CONNECTING = Connecting.__struct_fields__

ENDS = {
    "request_end": ("request_start", "send"),
    "response_start": ("request_end", "wait"),
    "response_end": ("response_start", "receive"),
}
"""Which phase a step ends, and the step that it begins with: if both are known it has happened, however short."""


class Instants(msgspec.Struct, array_like=True):
    """What is known so far: request and response, first and last byte; the connection's making; the entry's end."""

    request_start: float | None = None
    request_end: float | None = None
    response_start: float | None = None
    response_end: float | None = None
    failed: float | None = None
    connecting: Connecting | None = None


def _known(instants: Instants) -> dict[str, float]:
    """Return the steps that were observed, in order of time."""
    *exchange, connecting = msgspec.structs.astuple(instants)
    steps = [*zip(EXCHANGE, exchange, strict=True)]
    if connecting is not None:
        steps += zip(CONNECTING, msgspec.structs.astuple(connecting), strict=True)
    known = [step for step in steps if step[1] is not None and -MAX_OFFSET <= step[1] <= MAX_OFFSET]
    return dict(sorted(known, key=lambda step: step[1]))


def _making(known: dict[str, float]) -> dict[str, str]:
    """Return which phase of making the connection begins with which step; an empty one is the end of it.

    Looking up a name begins with the attempt to connect: nothing else is done in between. After TCP and before TLS a
    tunnel is made, through an upstream proxy; but before there is a request, it is the client that is waited for.
    """
    to_tls = "connect" if known.get("connected", inf) >= known.get("request_start", -inf) else "blocked"
    return {
        "queued": "blocked",
        "opened": "dns" if "resolving" in known else "connect",
        "resolving": "dns",
        "resolved": "connect",
        "connected": to_tls if "securing" in known else "",
        "securing": "ssl",
        "secured": "",
    }


class _Walk:
    """A walk through an entry's steps: the phase that it is in, and what each phase has taken so far.

    `made` is the phase of making the connection: null before it has begun, empty when it is done.
    """

    def __init__(self, known: dict[str, float]) -> None:
        self.spent: dict[str, int] = {}
        self._known = known
        self._making = _making(known)
        self._is_to_connect = not known.keys().isdisjoint(CONNECTING)
        self._seen: set[str] = set()
        self._made: str | None = None
        self._at = 0.0
        self._ms = 0

    def take(self, step: str, at: float) -> None:
        """Go on to a step: what has passed since the last one belongs to the phase that it began."""
        if at > self._at:
            phase, ms = self.phase(), int(at * 1000)
            self.spent[phase] = self.spent.get(phase, 0) + ms - self._ms
            self._at, self._ms = at, ms
        self._seen.add(step)
        if step in self._making:
            self._made = self._making[step]
            self._note(self._made)
        elif step in ENDS and ENDS[step][0] in self._known:
            self._note(ENDS[step][1])

    def _note(self, phase: str) -> None:
        """Note that a phase happens, however short."""
        if phase:
            self.spent.setdefault(phase, 0)

    def phase(self) -> str:
        """Return the phase that goes on."""
        if "response_start" in self._seen:
            return "send" if self._sends_on() else "receive"
        if self._made:
            return self._made
        if "request_start" in self._known and "request_start" not in self._seen:
            return "blocked"
        if "request_end" not in self._seen:
            return "send"
        return "blocked" if self._made is None and self._is_to_connect else "wait"

    def _sends_on(self) -> bool:
        """Return whether the request goes on to a server whose response is complete already."""
        return "response_end" in self._seen and "request_end" in self._known and "request_end" not in self._seen

    def drop_unfinished(self) -> None:
        """Drop the phases that are not over, of an entry that has not ended."""
        going_on = {self.phase()}
        if "ssl" in going_on:
            going_on.add("connect")
        if "request_end" not in self._known:
            going_on.add("send")
        for phase in going_on:
            self.spent.pop(phase, None)


def _end(known: dict[str, float]) -> float | None:
    """Return when the entry ended: with its response or failure, and not before the last byte of its request."""
    if "response_end" not in known and "failed" not in known:
        return None
    return max([known[step] for step in EXCHANGE if step in known])


def phases(instants: Instants) -> dict[str, int]:
    """Return the phases that are over, in whole milliseconds: the difference of two offsets, each rounded down.

    `ssl` is contained in `connect`; the others are disjoint. A phase that did not happen or is not over is left out.
    """
    known = _known(instants)
    end = _end(known)
    walk = _Walk(known)
    for step, at in known.items():
        if end is None or at <= end:
            walk.take(step, at)
    if end is None:
        walk.drop_unfinished()
    if "ssl" in walk.spent:
        walk.spent["connect"] = walk.spent.get("connect", 0) + walk.spent["ssl"]
    return walk.spent
