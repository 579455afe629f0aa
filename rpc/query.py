"""`sessions/query`: summaries of a session's entries, in pages, those that fit a filter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import batched
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rpc.jsonrpc import InvalidParams, Problem, json_string
from rpc.schema import QueryParams
from rpc.store import Store
from rpc.summary_table import Row
from rpc.turns import Turns

if TYPE_CHECKING:
    from types import ModuleType

ROWS_PER_PAGE = 256
"""Entries that are read from the store at once: about 1 ms."""

ROWS_PER_TURN = 64
"""Entries that are looked at before others get their turn, if that does not take long."""

MAX_NUMBER = 2**63 - 1


class _Id(msgspec.Struct):
    id: str


_decode_id = msgspec.json.Decoder(_Id).decode

type Fitting = Callable[[list[Row]], Iterable[tuple[Row, bool]]]
"""Says of each entry of a page whether it fits."""


class Page(NamedTuple):
    """The JSON of summaries, and the id of the last one if there are more."""

    entries: list[bytes]
    next: str | None

    def render(self) -> str:
        """Return the JSON of an `EntryPage`."""
        following = "null" if self.next is None else json_string(self.next)
        return f'{{"entries":[{b",".join(self.entries).decode()}],"next":{following}}}'


async def query(store: Store, params: QueryParams) -> Page | None:
    """Return a page of entries; null if the session, or the entry to begin after, is not known.

    Raises `InvalidParams` for an expression that cannot be used.
    """
    fitting = await _filter(store, params)
    if store.position(params.session_id) is None:
        return None
    start = MAX_NUMBER if params.order == "newest" else 0
    if params.after is not None:
        if (row := store.summary(params.session_id, params.after)) is None:
            return None
        start = row.number
    return await _page(_pages(store, params, start), fitting, params.limit)


async def _page(pages: Iterator[list[Row]], fitting: Fitting, limit: int) -> Page:
    """Collect entries that fit, and look for one more, to know whether there is another page."""
    turns = Turns(ROWS_PER_TURN)
    found: list[bytes] = []
    for rows in pages:
        for row, fits in fitting(rows):
            await turns.step()
            if fits and len(found) == limit:
                return Page(found, _decode_id(found[-1]).id)
            if fits:
                found.append(row.summary.json)
    return Page(found, None)


def _pages(store: Store, params: QueryParams, start: int) -> Iterator[list[Row]]:
    """Yield the entries beyond a number in the order that is asked for, some at a time."""
    is_newest_first = params.order == "newest"
    if params.entry_ids is not None:
        found = {row for entry_id in params.entry_ids if (row := store.summary(params.session_id, entry_id))}
        beyond = (row for row in found if (row.number < start if is_newest_first else row.number > start))
        yield from map(list, batched(sorted(beyond, reverse=is_newest_first), ROWS_PER_PAGE))
        return
    while rows := store.summaries(params.session_id, start, ROWS_PER_PAGE, newest_first=is_newest_first):
        yield rows
        start = rows[-1].number


async def _filter(store: Store, params: QueryParams) -> Fitting:
    if params.filter is None:
        return lambda rows: ((row, True) for row in rows)
    filters = await asyncio.to_thread(_load_filters)
    try:
        fitting: Fitting = filters.Filter(params.filter, store, params.session_id).fitting
    except filters.FilterError as error:
        raise InvalidParams((Problem("filter", str(error)),)) from None
    return fitting


def _load_filters() -> ModuleType:
    """Load what imports mitmproxy, which takes a while, in a thread: others are answered meanwhile."""
    from rpc import filters  # noqa: PLC0415

    return filters
