"""The captures in `flows/` replay to the entries beside them, and there is one of each subject."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.snapshot import Snapshot, settled
from flows.subjects import SUBJECTS
from tests.peers.proxy import recording

FOLDER = Path(__file__).parents[1] / "flows"
CAPTURES = sorted(FOLDER.glob("*.flow"))


def replayed(confdir: Path, capture: Path, count: int) -> Snapshot:
    """Return what the API tells of a capture that mitmdump has read."""
    with recording(confdir, "-n", "-r", str(capture), "--set", "keepserving=true", listens=False) as proxy:
        return settled(proxy.api, count)


def test_each_subject_has_its_capture() -> None:
    assert {capture.stem for capture in CAPTURES} == set(SUBJECTS)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.stem)
def test_a_capture_replays_to_the_same_entries_bodies_and_messages(confdir: Path, capture: Path) -> None:
    recorded = json.loads(capture.with_suffix(".json").read_text())
    again = replayed(confdir, capture, len(recorded["entries"]))
    assert again["entries"] == recorded["entries"]
    assert again["messages"] == recorded["messages"]
    assert again["request_bodies"] == recorded["request_bodies"]
    assert again["response_bodies"] == recorded["response_bodies"]
