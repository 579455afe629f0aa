"""The store's table of summaries: entries in pages, and what has come and changed since some point of a session.

Every transaction is a revision of the session that it writes to. An entry has the revision in which it was added and
the one in which it was last changed, so that whoever knows an entry can be told of all that has come after it.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from rpc.summaries import Summary

PUT = (
    "INSERT INTO summary VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE"
    " SET changed = ?3, json = ?4, request_type = ?5, response_type = ?6"
)


class Position(NamedTuple):
    """A point in a session's history: its entries up to this number, and their changes up to this revision."""

    number: int
    revision: int


class Row(NamedTuple):
    """An entry's number and its summary."""

    number: int
    summary: Summary


class Changed(NamedTuple):
    """Where in the order of changes an entry's last one stands, and the JSON of its summary."""

    revision: int
    number: int
    json: bytes


class SummaryTable:
    """The table in one store. Sessions and entries are named by their numbers."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._revisions: dict[int, int] = {}
        self._written: set[int] = set()

    def put(self, session: int, entry: int, summary: Summary) -> None:
        """Write an entry's summary, new or changed, in a transaction."""
        if session not in self._revisions:
            self._revisions[session] = self.revision(session) + 1
        self._written.add(session)
        self._connection.execute(PUT, (session, entry, self._revisions[session], *summary))

    def committed(self) -> None:
        """Take in that the transaction is committed."""
        for session in self._written:
            self._revisions[session] += 1
        self._written.clear()

    def rolled_back(self) -> None:
        """Take in that what was put is not written."""
        self._revisions.clear()
        self._written.clear()

    def revision(self, session: int) -> int:
        """Return the session's revision: 0 before the first."""
        sql = "SELECT max(changed) FROM summary WHERE session = ?"
        return self._connection.execute(sql, (session,)).fetchone()[0] or 0

    def end(self, session: int) -> Position:
        """Return the point that the session has reached."""
        sql = "SELECT max(entry) FROM summary WHERE session = ?"
        number = self._connection.execute(sql, (session,)).fetchone()[0] or 0
        return Position(number, self.revision(session))

    def before_changes(self, session: int, entry: int) -> Position | None:
        """Return the point at which this entry was the last one, and nothing had happened since it was added."""
        sql = "SELECT added - 1 FROM summary WHERE session = ? AND entry = ?"
        row = self._connection.execute(sql, (session, entry)).fetchone()
        return None if row is None else Position(entry, row[0])

    def added(self, session: int, number: int, limit: int) -> list[Row]:
        """Return the entries beyond this number, the oldest first."""
        return self._page(session, "entry > ?", number, "ASC", limit)

    def before(self, session: int, number: int, limit: int) -> list[Row]:
        """Return the entries below this number, the newest first."""
        return self._page(session, "entry < ?", number, "DESC", limit)

    def row(self, session: int, number: int) -> list[Row]:
        """Return the one entry of this number, if there is it."""
        return self._page(session, "entry = ?", number, "ASC", 1)

    def _page(self, session: int, condition: str, number: int, order: str, limit: int) -> list[Row]:
        sql = (
            "SELECT entry, json, request_type, response_type FROM summary"  # noqa: S608
            f" WHERE session = ? AND {condition} ORDER BY entry {order} LIMIT ?"
        )
        rows = self._connection.execute(sql, (session, number, limit))
        return [Row(entry, Summary(*columns)) for entry, *columns in rows]

    def changed(self, session: int, through: int, after: Position, limit: int) -> list[Changed]:
        """Return the entries up to the number `through` that have changed since a point, in order of change.

        Within one revision they are in order of creation, and the point's number is the last that is known of it.
        """
        sql = (
            "SELECT changed, entry, json FROM summary WHERE session = ?1 AND entry <= ?2"
            " AND (changed, entry) > (?3, ?4) ORDER BY changed, entry LIMIT ?5"
        )
        rows = self._connection.execute(sql, (session, through, after.revision, after.number, limit))
        return [Changed(*row) for row in rows]
