from __future__ import annotations

import io as streams
from typing import Any

import pytest
from mitmproxy import http, io
from mitmproxy.test.tflow import tflow

from addon import saved as saving
from addon.ids import new_id
from addon.saved import Saved, SavedClient, SavedFrame, SavedTls, encode_frame, frames, read

HELLO = b"\x01\x00\x00\x02\xff\xfe"


def everything() -> Saved:
    """Return what a flow keeps at most."""
    tls = SavedTls(id=new_id(), client_hello=HELLO, version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", transport="tcp")
    return Saved(
        version=saving.VERSION,
        id=new_id(),
        started=1.5,
        client=SavedClient(tls=tls, http2=new_id(), process=(1, "curl")),
        stream=3,
        pseudo=(b":method", b":path"),
        remote=("192.0.2.1", 443),
        request_start=0.0,
        released=None,
        request_end=0.5,
        sent=0.6,
        response_start=1.0,
        response_end=2.0,
        failed=None,
        connecting=(0.0, None, None, None, 0.1, 0.1, 0.2),
        pushed=True,
        streamed={"response": 7},
        frames=[encode_frame(SavedFrame("ping", True, None, 3.0, b"data"))],
    )


def through_a_file(kept: object) -> http.HTTPFlow:
    """Return a flow with this in its metadata, as it comes out of a file."""
    flow = tflow()
    flow.metadata[saving.KEY] = kept
    file = streams.BytesIO()
    io.FlowWriter(file).add(flow)
    file.seek(0)
    (loaded,) = io.FlowReader(file).stream()
    assert isinstance(loaded, http.HTTPFlow)
    return loaded


def test_everything_comes_back_out_of_a_file() -> None:
    kept = everything()
    again = read(through_a_file(kept))
    assert again == kept
    assert again is not None
    assert frames(again) == [SavedFrame("ping", True, None, 3.0, b"data")]


def test_a_flow_that_was_not_recorded_has_kept_nothing() -> None:
    assert read(tflow()) is None


DAMAGES: list[dict[str, Any]] = [
    {"version": 2},
    {"id": "x"},
    {"id": "01jd8z7t5m0e9r3q6w2xky4abc"},
    {"started": "1.5"},
    {"client": {"tls": None}},
    {"client": {"tls": None, "http2": "not an id"}},
    {"stream": "3"},
    {"pseudo": ("text",)},
    {"remote": ("192.0.2.1",)},
    {"request_start": "0"},
    {"streamed": {"elsewhere": 1}},
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_what_is_not_of_its_form_is_not_trusted(damage: dict[str, Any]) -> None:
    assert read(through_a_file({**everything(), **damage})) is None


@pytest.mark.parametrize("missing", ["version", "id", "client", "connecting"])
def test_what_is_not_whole_is_not_trusted(missing: str) -> None:
    kept = {name: value for name, value in everything().items() if name != missing}
    assert read(through_a_file(kept)) is None


@pytest.mark.parametrize("kept", [None, 1, "text", [], b"\xff"])
def test_what_is_something_else_is_not_trusted(kept: object) -> None:
    assert read(through_a_file(kept)) is None


def test_frames_that_cannot_be_read_are_none() -> None:
    kept = everything()
    kept["frames"] = [b"\xc1"]
    assert frames(kept) == []
