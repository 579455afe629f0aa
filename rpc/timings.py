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

EXCHANGE = ("request_start", "released", "request_end", "sent", "response_start", "response_end", "failed")
CONNECTING = Connecting.__struct_fields__

ENDS = {
    "request_end": ("request_start", "send"),
    "sent": ("request_start", "blocked"),
    "response_start": ("sent", "wait"),
    "response_end": ("response_start", "receive"),
}
"""Which phase a step ends, and the step that it begins with: if both are known it has happened, however short."""

MAKING = {
    "queued": "",
    "opened": "connect",
    "resolving": "dns",
    "resolved": "connect",
    "connected": "",
    "securing": "ssl",
    "secured": "",
    "tunnelling": "connect",
    "tunnelled": "",
    "securing_inside": "ssl",
    "secured_inside": "",
}
"""Which phase of making the connection begins with which step; an empty one: nobody works on it."""


class Instants(msgspec.Struct, array_like=True):
    """What is known so far, as offsets in seconds from the entry's start.

    Request and response, first and last byte; the entry's failure; how its connection was made; until when the
    request's head was held; and when the request was sent on: null if it never was, or has not been yet.
    """

    request_start: float | None = None
    request_end: float | None = None
    response_start: float | None = None
    response_end: float | None = None
    failed: float | None = None
    connecting: Connecting | None = None
    released: float | None = None
    sent: float | None = None


def _known(instants: Instants) -> dict[str, float]:
    """Return the steps that were observed, in order of time."""
    steps = [(step, getattr(instants, step)) for step in EXCHANGE]
    if instants.connecting is not None:
        steps += zip(CONNECTING, msgspec.structs.astuple(instants.connecting), strict=True)
    known = [step for step in steps if step[1] is not None and -MAX_OFFSET <= step[1] <= MAX_OFFSET]
    return dict(sorted(known, key=lambda step: step[1]))


def _making(known: dict[str, float]) -> dict[str, str]:
    """Return `MAKING` as it is for one entry.

    Looking up a name begins with the attempt to connect: nothing else is done in between. Nor is there after TCP before
    what follows it, if there is a request; before there is one, it is the client that is waited for.
    """
    making = dict(MAKING)
    if "resolving" in known:
        making["opened"] = "dns"
    has_request = known.get("connected", inf) >= known.get("request_start", -inf)
    if has_request and not known.keys().isdisjoint({"securing", "tunnelling"}):
        making["connected"] = "connect"
    return making


class _Walk:
    """A walk through an entry's steps: the phase that it is in, and what each phase has taken so far.

    `made` is the phase of making the connection; empty while nobody works on that.
    """

    def __init__(self, known: dict[str, float]) -> None:
        self.spent: dict[str, int] = {}
        self._known = known
        self._making = _making(known)
        self._seen: set[str] = set()
        self._made = ""
        self._at = 0.0
        self._ms = 0

    def take(self, step: str, at: float) -> None:
        """Go on to a step: what has passed since the last one belongs to the phase that it began."""
        if at > self._at:
            phase, ms = self.phase(), int(at * 1000)
            self.spent[phase] = self.spent.get(phase, 0) + ms - self._ms
            self._at, self._ms = at, ms
        self._seen.add(step)
        if step in MAKING:
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
        if self._made and "sent" not in self._seen:
            return self._made
        if self._is_ahead("request_start") or self._is_ahead("released"):
            return "blocked"
        if "request_end" not in self._seen:
            return "blocked" if self._waits_to_pass_on() else "send"
        return "wait" if "sent" in self._seen else "blocked"

    def _is_ahead(self, step: str) -> bool:
        """Return whether a step is known that has not been taken yet."""
        return step in self._known and step not in self._seen

    def _waits_to_pass_on(self) -> bool:
        """Return whether the request, which is passed on as it comes, has no connection yet."""
        return self._is_ahead("sent") and self._known["sent"] < self._known.get("request_end", MAX_OFFSET)

    def _sends_on(self) -> bool:
        """Return whether the request goes on to a server whose response is complete already."""
        return "response_end" in self._seen and self._is_ahead("request_end")

    def drop_unfinished(self) -> None:
        """Drop the phases that are not over, of an entry that has not ended."""
        going_on = {self.phase()}
        if not going_on.isdisjoint({"connect", "ssl"}):
            going_on |= {"connect", "ssl"}
        if "request_end" not in self._known:
            going_on.add("send")
        if self._known.keys().isdisjoint({"sent", "response_start"}):
            going_on.add("blocked")
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
