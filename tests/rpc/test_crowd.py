from __future__ import annotations

from rpc.crowd import Crowd


class Visitor:
    def __init__(self) -> None:
        self.was_cut_off = False

    def cut_off(self) -> None:
        self.was_cut_off = True


def arrived(crowd: Crowd[Visitor], count: int) -> list[Visitor]:
    visitors = [Visitor() for _ in range(count)]
    for visitor in visitors:
        crowd.arrive(visitor)
    return visitors


def test_those_who_are_at_the_door_for_the_longest_time_make_room_for_others() -> None:
    crowd = Crowd[Visitor](10, at_the_door=3)
    visitors = arrived(crowd, 5)
    assert [visitor.was_cut_off for visitor in visitors] == [True, True, False, False, False]


def test_those_inside_are_never_cut_off_for_others() -> None:
    crowd = Crowd[Visitor](10, at_the_door=1)
    (inside,) = arrived(crowd, 1)
    assert crowd.come_in(inside)
    arrived(crowd, 5)
    assert not inside.was_cut_off


def test_there_is_room_for_so_many_until_one_leaves() -> None:
    crowd = Crowd[Visitor](2)
    first, second, third = arrived(crowd, 3)
    assert [crowd.come_in(visitor) for visitor in (first, second, third)] == [True, True, False]
    crowd.leave(first)
    crowd.leave(first)
    assert crowd.come_in(third)


def test_who_left_the_door_makes_room_there() -> None:
    crowd = Crowd[Visitor](2, at_the_door=2)
    first, second = arrived(crowd, 2)
    crowd.leave(first)
    arrived(crowd, 1)
    assert not second.was_cut_off


def test_everybody_is_inside_or_at_the_door() -> None:
    crowd = Crowd[Visitor](2)
    visitors = arrived(crowd, 3)
    crowd.come_in(visitors[1])
    assert set(crowd.everybody) == set(visitors)
    crowd.leave(visitors[0])
    assert set(crowd.everybody) == set(visitors[1:])
