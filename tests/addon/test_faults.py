from __future__ import annotations

import logging

import pytest

from addon import faults
from addon.faults import Faults, guarded


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Faults:
    counted = Faults()
    monkeypatch.setattr(faults, "FAULTS", counted)
    return counted


class Addon:
    @guarded
    def response(self, flow: str) -> str:
        if flow == "bad":
            raise ValueError(flow)
        return flow.upper()

    @guarded
    def error(self) -> None:
        raise KeyError


def test_a_hook_that_works_returns_what_it_returns(counted: Faults) -> None:
    assert Addon().response("good") == "GOOD"
    assert not counted.counts


def test_a_hook_never_raises_and_the_first_fault_of_a_kind_is_logged_with_its_cause(
    counted: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    addon = Addon()
    with caplog.at_level(logging.WARNING):
        results = [addon.response("bad"), addon.response("bad"), addon.error()]
    assert results == [None, None, None]
    assert counted.counts == {"response": 2, "error": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "Recording is incomplete: response failed; more of this will only be counted",
        "Recording is incomplete: error failed; more of this will only be counted",
    ]
    assert caplog.records[0].exc_info is not None
