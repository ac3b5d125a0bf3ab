"""The dispatcher's window: as many outstanding as the live slots can start soon, never more (DESIGN D4)."""

from __future__ import annotations

import math

import pytest

from tasks_app.dispatch.window import LOOKAHEAD_S, Window
from tasks_app.status import Lane

CPU, IO = Lane.CPU, Lane.IO


def recount(made: Window, slots: dict[Lane, int], in_flight: dict[Lane, int], *, elapsed_s: float) -> None:
    made.resize(slots, elapsed_s=elapsed_s)
    made.counted(in_flight, {})


def room(made: Window) -> dict[Lane, int]:
    return {lane: free for lane, free in made.free().items() if free > 0}


def window(*, slots: int, outstanding: int = 0) -> Window:
    made = Window()
    recount(made, {CPU: slots}, {CPU: outstanding}, elapsed_s=1.0)
    return made


def test_without_workers_nothing_is_admitted() -> None:
    assert room(Window()) == {}
    assert room(window(slots=0)) == {}
    made = Window()
    made.freed(CPU, 5)
    assert room(made) == {}


def test_room_is_the_slots_and_one_ahead_less_what_is_outstanding() -> None:
    assert room(window(slots=2)) == {CPU: 3}
    assert room(window(slots=2, outstanding=2)) == {CPU: 1}
    assert room(window(slots=2, outstanding=3)) == {}
    assert room(window(slots=2, outstanding=1_000)) == {}


def test_what_is_admitted_takes_room_and_what_is_freed_gives_it_back() -> None:
    made = window(slots=2)
    made.counted({CPU: 3}, {})
    assert room(made) == {}
    made.freed(CPU, 2)
    assert room(made) == {CPU: 2}


def test_lanes_do_not_share_room() -> None:
    made = Window()
    recount(made, {CPU: 2, IO: 100}, {CPU: 9}, elapsed_s=1.0)
    assert room(made) == {IO: 101}
    made.freed(CPU, 9)
    assert room(made) == {CPU: 3, IO: 101}


def test_more_freed_than_outstanding_makes_no_room_from_nothing() -> None:
    made = window(slots=2)
    made.freed(CPU, 50)
    assert room(made) == {CPU: 3}


def test_a_recount_takes_over_what_the_database_says() -> None:
    made = window(slots=2)
    made.counted({CPU: 50}, {})
    recount(made, {CPU: 4}, {}, elapsed_s=1.0)
    assert room(made) == {CPU: 5}
    recount(made, {}, {}, elapsed_s=1.0)
    assert room(made) == {}


def test_the_lookahead_follows_the_rate_and_forgets_it() -> None:
    made = window(slots=2)
    for _ in range(10):
        made.freed(CPU, 600)
        recount(made, {CPU: 2}, {}, elapsed_s=1.0)
    assert room(made)[CPU] == pytest.approx(2 + math.ceil(600 * LOOKAHEAD_S), abs=1)
    for _ in range(20):
        recount(made, {CPU: 2}, {}, elapsed_s=1.0)
    assert room(made) == {CPU: 3}


@pytest.mark.parametrize("elapsed_s", [0.0, -1.0, 1e-9])
def test_no_time_between_two_recounts_makes_no_rate_without_bounds(elapsed_s: float) -> None:
    made = window(slots=2)
    made.freed(CPU, 1)
    recount(made, {CPU: 2}, {}, elapsed_s=elapsed_s)
    assert 3 <= room(made)[CPU] <= 2 + math.ceil(1_000 * LOOKAHEAD_S)


def test_a_round_is_not_worth_it_while_the_lookahead_is_half_full() -> None:
    made = window(slots=2)
    for _ in range(10):
        made.freed(CPU, 100)
        recount(made, {CPU: 2}, {CPU: 2}, elapsed_s=1.0)
    lookahead = made.free()[CPU]
    opens = []
    for outstanding in range(2, 3 + lookahead):
        made.counted({CPU: outstanding}, {})
        opens.append(made.is_open())
    assert opens == [left > lookahead // 2 for left in range(lookahead, -1, -1)]
    assert {True, False} <= set(opens)


def test_what_is_more_urgent_passes_what_waits_in_the_broker_up_to_a_window_of_its_own() -> None:
    made = window(slots=2)
    made.counted({CPU: 3}, {(CPU, 3): 1})
    assert [made.passes(priority) for priority in range(4)] == [True, True, True, False]
    made.counted({CPU: 4}, {(CPU, 3): 1, (CPU, 0): 1})
    assert not any(made.passes(priority) for priority in range(4))
    made.counted({CPU: 3}, {})  # all of them run: nobody waits there to be passed
    assert not any(made.passes(priority) for priority in range(4))
