from __future__ import annotations

from rpc.candidates import MOST_NEW, NEW_SECONDS, RECENT, Candidates


def test_the_latest_owner_comes_first() -> None:
    candidates = Candidates()
    for pid in (1, 2, 3, 1):
        candidates.found(pid)
    assert list(candidates.recent()) == [1, 3, 2]


def test_few_owners_are_remembered() -> None:
    candidates = Candidates()
    for pid in range(RECENT + 2):
        candidates.found(pid)
    assert list(candidates.recent()) == list(range(RECENT + 1, 1, -1))


def test_processes_that_were_there_before_are_not_new() -> None:
    assert Candidates([1, 2]).new([1, 2, 3], now=0.0) == [3]


def test_the_newest_process_comes_first_also_when_ids_have_started_over() -> None:
    candidates = Candidates()
    candidates.new([30_000, 30_001], now=0.0)
    assert candidates.new([7, 30_000, 30_001], now=0.1) == [7, 30_001, 30_000]


def test_a_process_stays_new_for_a_while_since_it_may_be_seen_before_it_connects() -> None:
    candidates = Candidates()
    assert candidates.new([1], now=0.0) == [1]
    assert candidates.new([1], now=NEW_SECONDS / 2) == [1]
    assert candidates.new([1], now=NEW_SECONDS) == []


def test_an_id_that_was_gone_in_between_is_new() -> None:
    candidates = Candidates([1])
    candidates.new([], now=0.0)
    assert candidates.new([1], now=0.1) == [1]


def test_a_process_that_was_right_before_is_not_looked_into_twice() -> None:
    candidates = Candidates()
    candidates.found(1)
    assert candidates.new([1, 2], now=0.0) == [2]


def test_of_very_many_new_processes_only_the_newest_are_looked_into() -> None:
    pids = range(2 * MOST_NEW)
    assert Candidates().new(pids, now=0.0) == list(reversed(pids))[:MOST_NEW]
