from __future__ import annotations

import time

import pytest
from ulid import ULID

from addon import ids
from addon.ids import new_id


def test_an_id_is_a_ulid_of_now_in_its_canonical_form() -> None:
    before = time.time_ns() // 1_000_000
    text = new_id()
    parsed = ULID.from_str(text)
    assert str(parsed) == text
    assert before <= parsed.milliseconds <= time.time_ns() // 1_000_000


def test_ids_are_different_and_sort_in_the_order_in_which_they_were_minted() -> None:
    minted = [new_id() for _ in range(20_000)]
    assert sorted(set(minted)) == minted


def test_ids_sort_even_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_mint", ids._Mint())
    minted = []
    for now in (2_000, 2_000, 1_000, 1_500, 2_000, 3_000):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now * 1_000_000)
        minted.append(new_id())
    assert sorted(set(minted)) == minted
    assert [ULID.from_str(text).milliseconds for text in minted] == [2_000, 2_000, 2_000, 2_000, 2_000, 3_000]


def test_ids_of_different_milliseconds_share_no_random_part() -> None:
    first = new_id()
    time.sleep(0.002)
    assert first[10:] != new_id()[10:]
