"""Everybody who is connected: those who have come in, within a limit, and those who are still at the door.

Whoever has not come in yet can be an attacker, and the last one to arrive need not be: beyond a limit, those are cut
off that have been at the door for the longest time. A client that knows its token is there for milliseconds.
"""

from __future__ import annotations

from typing import Protocol

AT_THE_DOOR = 256
"""Connections that may be at the door at a time. Each takes a file descriptor, and memory for a request's head."""


class Visitor(Protocol):
    """One connection."""

    def cut_off(self) -> None:
        """End the connection at once."""
        ...


class Crowd[V: Visitor]:
    """Who is connected."""

    def __init__(self, limit: int, at_the_door: int = AT_THE_DOOR) -> None:
        self._limit = limit
        self._at_the_door_limit = at_the_door
        self._at_the_door: dict[V, None] = {}
        self._inside: set[V] = set()

    @property
    def everybody(self) -> list[V]:
        """Those inside and those at the door."""
        return [*self._inside, *self._at_the_door]

    def arrive(self, visitor: V) -> None:
        """Take in that somebody is at the door; cut off whoever has been there for too long, if there are too many."""
        self._at_the_door[visitor] = None
        if len(self._at_the_door) > self._at_the_door_limit:
            longest = next(iter(self._at_the_door))
            del self._at_the_door[longest]
            longest.cut_off()

    def come_in(self, visitor: V) -> bool:
        """Take in that somebody comes in; return whether there is room."""
        if len(self._inside) >= self._limit:
            return False
        self._at_the_door.pop(visitor, None)
        self._inside.add(visitor)
        return True

    def leave(self, visitor: V) -> None:
        """Take in that somebody is gone. May be called again."""
        self._at_the_door.pop(visitor, None)
        self._inside.discard(visitor)
