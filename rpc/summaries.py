"""Summaries: what a list shows of an entry, in the contract's form, and what filters look at besides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rpc.entry import Entry
from rpc.schema import EntrySummary, SessionEntry, Timings, render_summary
from rpc.wire import without_surrogates


class Summary(NamedTuple):
    """The JSON of an `EntrySummary`, and the content types of request and response; null: there is none."""

    json: bytes
    request_type: str | None
    response_type: str | None


def summary(entry: Entry, rendered: SessionEntry) -> Summary:
    """Return the summary of an entry that is in the contract's form already."""
    request, response = rendered.request, rendered.response
    response_type = _content_type(response.headers) if response else None
    json = render_summary(
        EntrySummary(
            id=rendered.id,
            method=request.method,
            url=rendered.url,
            status_code=response.status_code if response else None,
            started_at=rendered.timings.started_at,
            duration=_duration(entry, rendered.timings),
            request_body_size=request.body_size,
            response_body_size=response.body_size if response else None,
            mime_type=_mime_type(response_type),
            is_web_socket=rendered.is_web_socket,
            is_finished=entry.is_finished,
            error=None if entry.error is None else without_surrogates(entry.error),
        )
    )
    return Summary(json, _content_type(request.headers), response_type)


def _duration(entry: Entry, timings: Timings) -> int | None:
    """Return the sum of an exchange's phases once it is over: `ssl` is contained in `connect`."""
    if entry.instants.response_end is None and entry.instants.failed is None:
        return None
    phases = (timings.blocked, timings.dns, timings.connect, timings.send, timings.wait, timings.receive)
    return sum(phase for phase in phases if phase is not None)


def _content_type(headers: Iterable[tuple[str, str]]) -> str | None:
    """Return the value of the field; several are one list (RFC 9110 section 5.3)."""
    values = [value for name, value in headers if name.lower() == "content-type"]
    return ", ".join(values) if values else None


def _mime_type(content_type: str | None) -> str | None:
    if content_type is None:
        return None
    return content_type.partition(";")[0].strip().lower() or None
