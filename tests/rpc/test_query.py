from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rpc import records
from tests.peers.api import Api, RpcError
from tests.peers.recorder import SESSION, answered, recorder, started

UNKNOWN = "01JD8Z7V4B267S7YCE3WYRXDDX"


def entry(number: int) -> str:
    return f"01JD8Z7V2NDQ31SRQS54P{number:05}"


ENTRIES = [entry(number) for number in range(1, 11)]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A session of ten entries, every other one answered, and one that has failed."""
    with recorder() as recording, Api(recording.url) as api:
        for number, name in enumerate(ENTRIES):
            recording.tell(started(name))
            if number % 2 == 0:
                recording.tell(answered(name, [b"body"], content_type="text/plain"))
        recording.tell([records.EntryFailed(ENTRIES[-1], 0.25, "reset", None, None)])
        yield api
        api.close()
        recording.end()


def ask(api: Api, **params: Any) -> tuple[list[str], str | None]:
    page = api.call("sessions/query", sessionId=SESSION, **params)
    return [summary["id"] for summary in page["entries"]], page["next"]


def test_everything_is_listed_in_order_of_creation(api: Api) -> None:
    assert ask(api) == (ENTRIES, None)
    assert ask(api, order="newest") == (ENTRIES[::-1], None)


def test_summary_says_what_the_entry_says(api: Api) -> None:
    first = api.call("sessions/query", sessionId=SESSION, limit=1)["entries"][0]
    whole = api.get(ENTRIES[0], SESSION)
    assert (first["url"], first["method"], first["startedAt"]) == (
        whole["url"],
        whole["request"]["method"],
        whole["timings"]["startedAt"],
    )
    assert (first["statusCode"], first["mimeType"], first["responseBodySize"]) == (200, "text/plain", 4)


def test_failed_entry_has_its_reason_and_duration(api: Api) -> None:
    (last,) = api.call("sessions/query", sessionId=SESSION, order="newest", limit=1)["entries"]
    assert (last["error"], last["duration"], last["isFinished"]) == ("reset", 250, True)


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("limit", [1, 3, 5, 10])
def test_pages_make_up_the_whole(api: Api, order: str, limit: int) -> None:
    ids: list[str] = []
    pages = 0
    after = None
    while pages == 0 or after is not None:
        page, after = ask(api, order=order, limit=limit, after=after)
        assert 0 < len(page) <= limit
        ids += page
        pages += 1
    assert ids == (ENTRIES if order == "oldest" else ENTRIES[::-1])
    assert pages == -(-10 // limit)


def test_pages_of_a_filter_end_with_what_fits(api: Api) -> None:
    page, after = ask(api, filter="~c 200", limit=3)
    assert page == ENTRIES[0:5:2]
    assert after == page[-1]
    assert ask(api, filter="~c 200", limit=3, after=after) == (ENTRIES[6:9:2], None)


def test_only_the_entries_that_are_named_are_looked_at(api: Api) -> None:
    assert ask(api, entryIds=[ENTRIES[3], ENTRIES[0], UNKNOWN, ENTRIES[0]]) == ([ENTRIES[0], ENTRIES[3]], None)
    assert ask(api, entryIds=ENTRIES, filter="~e") == ([ENTRIES[-1]], None)
    assert ask(api, entryIds=[]) == ([], None)


def test_unknown_session_or_entry_is_null(api: Api) -> None:
    assert api.call("sessions/query", sessionId=UNKNOWN) is None
    assert api.call("sessions/query", sessionId=SESSION, after=UNKNOWN) is None


@pytest.mark.parametrize(
    ("params", "parameter", "reason"),
    [
        ({"filter": "~foo"}, "filter", "is no valid expression of mitmproxy's filter language"),
        ({"filter": "~marked"}, "filter", "has ~marked, of which entries know nothing"),
        ({"filter": "x" * 2001}, "filter", "must have at most 2000 characters"),
        ({"limit": 0}, "limit", "must be at least 1"),
        ({"limit": 1001}, "limit", "must be at most 1000"),
        ({"order": "best"}, "order", "must be 'oldest' or 'newest'"),
    ],
)
def test_bad_parameter_is_named_with_the_reason(api: Api, params: Any, parameter: str, reason: str) -> None:
    with pytest.raises(RpcError) as refused:
        ask(api, **params)
    assert refused.value.code == -32602
    assert refused.value.data == [{"parameter": parameter, "reason": reason}]


def test_mitmproxy_is_not_imported_to_start_nor_without_a_filter() -> None:
    script = "import sys, rpc.child, rpc.query, json; print(json.dumps([m for m in sys.modules if 'mitmproxy' in m]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
