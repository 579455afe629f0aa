"""Copies of stores, made while they are in use."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from rpc import store_format
from rpc.bodyfiles import folder_of
from rpc.store_format import OPEN_SECONDS, StoreError

ATTEMPTS = 3
"""How often everything is copied if bodies go away meanwhile; what is missing then is not kept in the copy."""


COPY_BYTES = 1024 * 1024
"""Bytes that are copied at a time."""


def copy_store(source: Path, target: Path) -> None:
    """Copy a store with all its bodies, as it is at one moment; it may be in use meanwhile.

    The copy is of the current version, private, and there as a whole or not at all. It shares the files of finished
    bodies with the store if both are on one file system; these never change. Raises `StoreError`, also if there is
    something at `target`.
    """
    store_format.refuse_foreign(source)
    try:
        with _new(target) as new:
            for _ in range(ATTEMPTS):
                _copy_database(source, new)
                if not (missing := _copy_files(source, new)):
                    break
            _give_up(new, missing)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"The store {source} cannot be copied to {target}: {reason}."
        raise StoreError(message) from error


@contextmanager
def _new(target: Path) -> Iterator[Path]:
    """Yield where to make what then gets the target's name."""
    new = target.with_name(f"{target.name}.{secrets.token_hex(8)}.new")
    try:
        yield new
        if target.exists() or folder_of(target).exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if folder_of(new).exists():
            folder_of(new).rename(folder_of(target))
        new.rename(target)
    finally:
        for left in (new, *new.parent.glob(f"{new.name}-???")):
            left.unlink(missing_ok=True)
        shutil.rmtree(folder_of(new), ignore_errors=True)


def _copy_database(source: Path, new: Path) -> None:
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    with closing(sqlite3.connect(source.absolute().as_uri() + "?mode=rw", uri=True, timeout=OPEN_SECONDS)) as database:
        database.execute("VACUUM INTO ?", (str(new),))
    store_format.prepare(new)


def _copy_files(source: Path, new: Path) -> list[tuple[int, str]]:
    """Copy the files that the new store tells of; return entry and side of those that are not there any more."""
    shutil.rmtree(folder_of(new), ignore_errors=True)
    sql = "SELECT entry, side, name, size, state IS NULL FROM body_file JOIN entry ON entry.number = body_file.entry"
    with closing(sqlite3.connect(new)) as database:
        rows = database.execute(sql).fetchall()
    if rows:
        folder_of(new).mkdir(mode=0o700)
    missing = []
    for entry, side, name, size, is_finished in rows:
        try:
            _copy_file(folder_of(source) / name, folder_of(new) / name, size, may_share=is_finished)
        except FileNotFoundError:
            missing.append((entry, side))
    return missing


def _copy_file(source: Path, target: Path, size: int, *, may_share: bool) -> None:
    """Copy a file that may be growing as it was with this size."""
    if may_share:
        with suppress(OSError):  # another file system, or one without hard links
            os.link(source, target)
            return
    with source.open("rb") as reading, target.open("xb") as writing:
        target.chmod(0o600)
        while size and (piece := reading.read(min(size, COPY_BYTES))):
            size -= writing.write(piece)


def _give_up(new: Path, missing: list[tuple[int, str]]) -> None:
    """Have the new store tell that these bodies are not kept."""
    with closing(sqlite3.connect(new)) as database, database:
        for entry, side in missing:
            database.execute(f"UPDATE entry SET {side}_kept = NULL WHERE number = ?", (entry,))  # noqa: S608
