from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest

from rpc import shares
from rpc.shares import FREE_SECONDS, MAX_REST_SECONDS, SHARE, Counted, Share, rest


class Machine:
    """Its clocks, which go on when something works or waits, and whether it has a processor to spare."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.worked = 0.0
        self.is_busy = True

    def are_busy(self, _now: float) -> bool:
        return self.is_busy

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.worked += seconds

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def worked_for(self, seconds: float) -> Share:
        share = Share()
        share.begin()
        self.work(seconds)
        share.end()
        return share


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine()
    monkeypatch.setattr(shares, "PROCESSORS", made)
    monkeypatch.setattr(shares, "monotonic", lambda: made.now)
    monkeypatch.setattr(shares, "thread_time", lambda: made.worked)
    yield made
    shares._working_without_a_pause.clear()


def test_who_works_little_never_rests(machine: Machine) -> None:
    share = Share()
    for _ in range(1000):
        share.begin()
        machine.work(0.001)
        share.end()
        assert share.rest() == 0
        machine.wait(0.001 / SHARE)


def test_who_works_without_a_pause_takes_its_share(machine: Machine) -> None:
    share = Share()
    for _ in range(1000):
        share.begin()
        machine.work(0.003)
        share.end()
        rest = share.rest()
        assert rest <= MAX_REST_SECONDS
        machine.wait(rest)
    assert machine.worked / (machine.now - 1000) == pytest.approx(SHARE, rel=0.1)


def test_nobody_rests_while_there_are_processors_to_spare(machine: Machine) -> None:
    machine.is_busy = False
    share = machine.worked_for(60)
    assert share.rest() == 0
    machine.is_busy = True
    assert share.rest() == 0


def test_work_under_way_counts(machine: Machine) -> None:
    share = Share()
    share.begin()
    machine.work(FREE_SECONDS * 2)
    assert share.rest() > 0


def test_two_who_work_without_a_pause_have_one_share_together(machine: Machine) -> None:
    ready = {Share(): machine.now, Share(): machine.now}
    for _ in range(2000):
        share = min(ready, key=lambda share: ready[share])
        machine.now = max(machine.now, ready[share])
        share.begin()
        machine.work(0.003)
        share.end()
        ready[share] = machine.now + share.rest()
    assert machine.worked / (machine.now - 1000) == pytest.approx(SHARE, rel=0.15)
    assert shares._working_without_a_pause == set(ready)
    for share in ready:
        share.leave()
    assert shares._working_without_a_pause == set()


def test_work_in_a_coroutine_counts_and_what_others_do_meanwhile_does_not(machine: Machine) -> None:
    async def works() -> float:
        machine.work(FREE_SECONDS * 2)
        await asyncio.sleep(0)
        return rest()

    async def waits() -> float:
        other = asyncio.create_task(works())
        await other
        return rest()

    async def counted() -> tuple[float, float]:
        return await Counted(works(), Share()), await Counted(waits(), Share())

    working, waiting = asyncio.run(counted())
    assert working > 0
    assert waiting == 0


def test_without_a_client_nobody_rests(machine: Machine) -> None:
    machine.work(60)
    assert rest() == 0


def test_a_counted_coroutine_is_awaited_as_it_is() -> None:
    async def raises(error: BaseException | None) -> str:
        try:
            await asyncio.sleep(0)
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except TimeoutError:
            if error is not None:
                raise error from None
            return "timed out"
        return ""

    async def cancelled() -> bool:
        task = asyncio.create_task(cancellable())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return True

    async def cancellable() -> None:
        await Counted(asyncio.sleep(60), Share())

    async def scenario() -> None:
        assert await Counted(raises(None), Share()) == "timed out"
        with pytest.raises(KeyError):
            await Counted(raises(KeyError()), Share())
        assert await cancelled()

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted one by one on Linux")
def test_processors_are_busy_a_moment_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5, 5, 6, 6, 6])
    monkeypatch.setattr(shares, "_interruptions", lambda: next(counts))
    seen = shares.Processors()
    seen._seen = 5
    moments = (100.0, 101.0, 102.0, 102.1, 103.0)
    assert [seen.are_busy(now) for now in moments] == [False, False, True, True, False]
