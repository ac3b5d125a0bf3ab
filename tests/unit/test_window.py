"""The dispatcher's window: as many outstanding as the live slots can start soon, never more (DESIGN D4)."""

from __future__ import annotations

import math

import pytest

from tasks_app.dispatch.window import LOOKAHEAD_S, Window
from tasks_app.status import Lane

CPU, IO = Lane.CPU, Lane.IO


def recount(made: Window, slots: dict[Lane, int], in_flight: dict[Lane, int], *, elapsed_s: float) -> None:
    made.resize(slots, elapsed_s=elapsed_s)
    made.counted(in_flight)


def window(*, slots: int, outstanding: int = 0) -> Window:
    made = Window()
    recount(made, {CPU: slots}, {CPU: outstanding}, elapsed_s=1.0)
    return made


def test_without_workers_nothing_is_admitted() -> None:
    assert Window().room() == {}
    assert window(slots=0).room() == {}
    made = Window()
    made.freed(CPU, 5)
    assert made.room() == {}


def test_room_is_the_slots_and_one_ahead_less_what_is_outstanding() -> None:
    assert window(slots=2).room() == {CPU: 3}
    assert window(slots=2, outstanding=2).room() == {CPU: 1}
    assert window(slots=2, outstanding=3).room() == {}
    assert window(slots=2, outstanding=1_000).room() == {}


def test_what_is_admitted_takes_room_and_what_is_freed_gives_it_back() -> None:
    made = window(slots=2)
    made.counted({CPU: 3})
    assert made.room() == {}
    made.freed(CPU, 2)
    assert made.room() == {CPU: 2}


def test_lanes_do_not_share_room() -> None:
    made = Window()
    recount(made, {CPU: 2, IO: 100}, {CPU: 9}, elapsed_s=1.0)
    assert made.room() == {IO: 101}
    made.freed(CPU, 9)
    assert made.room() == {CPU: 3, IO: 101}


def test_more_freed_than_outstanding_makes_no_room_from_nothing() -> None:
    made = window(slots=2)
    made.freed(CPU, 50)
    assert made.room() == {CPU: 3}


def test_a_recount_takes_over_what_the_database_says() -> None:
    made = window(slots=2)
    made.counted({CPU: 50})
    recount(made, {CPU: 4}, {}, elapsed_s=1.0)
    assert made.room() == {CPU: 5}
    recount(made, {}, {}, elapsed_s=1.0)
    assert made.room() == {}


def test_the_lookahead_follows_the_rate_and_forgets_it() -> None:
    made = window(slots=2)
    for _ in range(10):
        made.freed(CPU, 600)
        recount(made, {CPU: 2}, {}, elapsed_s=1.0)
    assert made.room()[CPU] == pytest.approx(2 + math.ceil(600 * LOOKAHEAD_S), abs=1)
    for _ in range(20):
        recount(made, {CPU: 2}, {}, elapsed_s=1.0)
    assert made.room() == {CPU: 3}


@pytest.mark.parametrize("elapsed_s", [0.0, -1.0, 1e-9])
def test_no_time_between_two_recounts_makes_no_rate_without_bounds(elapsed_s: float) -> None:
    made = window(slots=2)
    made.freed(CPU, 1)
    recount(made, {CPU: 2}, {}, elapsed_s=elapsed_s)
    assert 3 <= made.room()[CPU] <= 2 + math.ceil(1_000 * LOOKAHEAD_S)
