"""The command line's commands that go on: entries as they finish, and messages of a WebSocket as they come."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing

from rpc.client import Client, connect
from rpc.lines import entry_line, message_line
from rpc.schema import WebSocketMessage


def has_colours() -> bool:
    """Return whether to write in colours: to a terminal, unless that is not wanted (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def tail(url: str | None, expression: str | None, count: int, *, json: bool) -> None:
    """Print the last entries that fit, and from then on each one that finishes. Raises `EntriesError`."""
    asyncio.run(_tail(url, expression, count, json=json))


async def _tail(url: str | None, expression: str | None, count: int, *, json: bool) -> None:
    colours = has_colours()
    async with connect(url) as client, aclosing(client.follow_summaries(expression, last=count)) as summaries:
        async for summary in summaries:
            _print(await _json(client, summary.id) if json else entry_line(summary, colours=colours))


async def _json(client: Client, entry_id: str) -> str:
    return (await client.entry(entry_id)).model_dump_json(by_alias=True)


def follow_messages(url: str | None, entry_id: str, *, json: bool) -> None:
    """Print the messages of a WebSocket until it has ended. Raises `EntriesError`."""
    asyncio.run(_follow_messages(url, entry_id, json=json))


async def _follow_messages(url: str | None, entry_id: str, *, json: bool) -> None:
    async with connect(url) as client, aclosing(client.follow_messages(entry_id)) as messages:
        async for message in messages:
            print_message(message, json=json)


def print_message(message: WebSocketMessage, *, json: bool) -> None:
    """Print a WebSocket message on a line."""
    _print(message.model_dump_json(by_alias=True) if json else message_line(message, colours=has_colours()))


def _print(line: str) -> None:
    # At once: who reads may be a program.
    print(line, flush=True)
