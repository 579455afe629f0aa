"""The store's file format: its tables, its version, and how an earlier version's file becomes one of this version.

A file that is not a store, or a newer version's, is recognised by its header and never opened for writing. A new one
is made under another name and then linked to its own, so that a store is either whole or not there at all.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

APPLICATION_ID = 0x48454E54
"""Marks the file as ours (SQLite's `application_id`)."""

MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
"""The database header: the version at offset 60, the application id at 68 (https://sqlite.org/fileformat.html)."""

BUSY_SECONDS = 0.25
"""How long to wait for another process that is writing: the event loop stands still meanwhile."""

OPEN_SECONDS = 10.0
"""How long opening waits for another process, which may be migrating the file."""

FIRST_VERSION = """
CREATE TABLE session (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    started REAL NOT NULL
) STRICT;
CREATE TABLE entry (
    number INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    json BLOB NOT NULL,
    request_kept INTEGER,
    response_kept INTEGER,
    state BLOB,
    UNIQUE (session, id)
) STRICT;
CREATE TABLE body (
    entry INTEGER NOT NULL,
    side TEXT NOT NULL,
    start INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (entry, side, start)
) STRICT;
CREATE TABLE message (
    entry INTEGER NOT NULL,
    number INTEGER NOT NULL,
    json BLOB NOT NULL,
    PRIMARY KEY (entry, number)
) STRICT;
"""

RUNS_AND_LIMITS = """
ALTER TABLE message ADD COLUMN ends INTEGER NOT NULL DEFAULT 1;
ALTER TABLE session ADD COLUMN ended REAL;
ALTER TABLE session ADD COLUMN pid INTEGER;
ALTER TABLE session ADD COLUMN process_started REAL;
ALTER TABLE session ADD COLUMN frame INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN entries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN evicted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN dropped_since REAL;
ALTER TABLE session ADD COLUMN dropped_until REAL;
CREATE TABLE fact (
    session INTEGER NOT NULL,
    key INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (session, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE eviction (through INTEGER NOT NULL) STRICT;
INSERT INTO eviction VALUES (0);
CREATE INDEX entry_order ON entry (session, number, id);
CREATE INDEX entry_unfinished ON entry (session) WHERE state IS NOT NULL;
UPDATE session SET
    entries = (SELECT count(*) FROM entry WHERE entry.session = session.number),
    bytes = (
        SELECT coalesce(sum(length(data)), 0) FROM body JOIN entry ON entry.number = body.entry
        WHERE entry.session = session.number
    ) + (
        SELECT coalesce(sum(length(message.json)), 0) FROM message JOIN entry ON entry.number = message.entry
        WHERE entry.session = session.number
    );
"""
"""Which process runs a session and what of its frames is stored; counters; the bound on what is kept; the order of ids.

`eviction.through`: bodies and messages of the entries up to this number are given up.
"""

SUMMARIES = """
CREATE TABLE summary (
    session INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    added INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    json BLOB NOT NULL,
    request_type TEXT,
    response_type TEXT,
    PRIMARY KEY (session, entry)
) STRICT, WITHOUT ROWID;
CREATE INDEX summary_changes ON summary (session, changed);
INSERT INTO summary
    WITH text AS MATERIALIZED (SELECT session, number, state, CAST(json AS TEXT) AS entry FROM entry),
    valid AS MATERIALIZED (
        SELECT *,
            (SELECT group_concat(value ->> 1, ', ') FROM json_each(entry, '$.request.headers')
                WHERE lower(value ->> 0) = 'content-type') AS request_type,
            (SELECT group_concat(value ->> 1, ', ') FROM json_each(entry, '$.response.headers')
                WHERE lower(value ->> 0) = 'content-type') AS response_type
        FROM text WHERE json_valid(entry)
    )
    SELECT session, number, number, number, CAST(json_object(
        'id', entry ->> '$.id',
        'method', entry ->> '$.request.method',
        'url', entry ->> '$.url',
        'statusCode', entry ->> '$.response.statusCode',
        'startedAt', entry ->> '$.timings.startedAt',
        'duration', iif(state IS NOT NULL, NULL,
            coalesce(entry ->> '$.timings.blocked', 0) + coalesce(entry ->> '$.timings.dns', 0)
            + coalesce(entry ->> '$.timings.connect', 0) + coalesce(entry ->> '$.timings.send', 0)
            + coalesce(entry ->> '$.timings.wait', 0) + coalesce(entry ->> '$.timings.receive', 0)),
        'requestBodySize', entry ->> '$.request.bodySize',
        'responseBodySize', entry ->> '$.response.bodySize',
        'mimeType', nullif(lower(trim(substr(response_type, 1, instr(response_type || ';', ';') - 1))), ''),
        'isWebSocket', json(entry -> '$.isWebSocket'),
        'isFinished', json(iif(state IS NULL, 'true', 'false')),
        'error', NULL
    ) AS BLOB), request_type, response_type FROM valid;
"""
"""What lists show of entries. In old files each entry is a revision of its own, and no reason of a failure is known."""

FILES = """
CREATE TABLE body_file (
    entry INTEGER NOT NULL,
    side TEXT NOT NULL,
    start INTEGER NOT NULL,
    size INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (entry, side)
) STRICT;
ALTER TABLE eviction ADD COLUMN file_bytes INTEGER NOT NULL DEFAULT 0;
"""
"""Large bodies: from the byte at `start` on, `size` bytes of the body are in the file `name` beside the store.

`eviction.file_bytes`: what all these files take.
"""

STEPS = (FIRST_VERSION, RUNS_AND_LIMITS, SUMMARIES, FILES)
"""What makes version n + 1 of version n. A step that has been published never changes; new stores take them all."""

VERSION = len(STEPS)


class StoreError(Exception):
    """The store cannot be used; the sentence is for the user."""


def prepare(path: Path) -> None:
    """Make the file a store of this version: create it, migrate it, or leave it. Raises `StoreError`, `sqlite3.Error`.

    A foreign or newer file is left exactly as it is.
    """
    if path.exists():
        refuse_foreign(path)
    else:
        _create(path)
    _migrate(path)


def _refuse(path: Path, application: int, version: int) -> None:
    if application != APPLICATION_ID:
        message = f"The file {path} is not a store of entries; it is left as it is."
        raise StoreError(message)
    if version > VERSION:
        message = f"The store {path} was written by a newer version of this program; it is left as it is."
        raise StoreError(message)


def refuse_foreign(path: Path) -> None:
    """Raise `StoreError` for a file that cannot be read, is no store or a newer one; only its header is looked at."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            _refuse(path, 0, 0)
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        message = f"The store {path} cannot be used: {error.strerror}."
        raise StoreError(message) from error
    if any(header):
        is_sqlite = header.startswith(MAGIC) and len(header) == HEADER_BYTES
        application = int.from_bytes(header[68:72]) if is_sqlite else 0
        _refuse(path, application, int.from_bytes(header[60:64]))


def _create(path: Path) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _take_steps(connection, 0)
            connection.execute("PRAGMA journal_mode = WAL")
        _name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _name(temporary: Path, path: Path) -> None:
    """Give a new store its name, unless another process was first."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            temporary.rename(path)


def _migrate(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=OPEN_SECONDS)) as connection:
        # No pages: the file was there before, but empty.
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        version = _version(connection)
        if pages:
            _refuse(path, *version)
        if version == (APPLICATION_ID, VERSION):
            return
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        _take_steps(connection, version[1])
        # The header says from now on which version this is, also to those who read nothing else.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _version(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _take_steps(connection: sqlite3.Connection, version: int) -> None:
    """Make the version the current one, all in one transaction, unless another process has done so meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    if _version(connection)[1] == version:
        for statement in ";\n".join(step.strip().rstrip(";") for step in STEPS[version:]).split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
