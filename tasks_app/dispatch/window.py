"""How much may be outstanding in each lane: the live slots and a small lookahead that follows their rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tasks_app.status import Lane

#: The lookahead covers what the slots finish in this time, so that they never wait for the dispatcher's next round.
LOOKAHEAD_S = 0.08
#: How quickly the measured rate follows, per :meth:`Window.resize`.
SMOOTHING = 0.5


class Window:
    """Estimates what is outstanding between two counts, from what is heard of freed slots.

    What is heard may be lost or late; each admission counts anew.
    """

    def __init__(self) -> None:
        self._slots: dict[Lane, int] = {}
        self._outstanding: dict[Lane, int] = {}
        self._rate: dict[Lane, float] = {}
        self._freed: dict[Lane, int] = {}

    def resize(self, slots: Mapping[Lane, int], *, elapsed_s: float) -> None:
        """Takes over how many slots there are; ``elapsed_s`` since the last time gives the rate."""
        self._slots = dict(slots)
        for lane in Lane:
            rate = self._freed.get(lane, 0) / max(elapsed_s, 0.001)
            self._rate[lane] = (1 - SMOOTHING) * self._rate.get(lane, 0.0) + SMOOTHING * rate
        self._freed = {}

    def freed(self, lane: Lane, count: int) -> None:
        self._outstanding[lane] = max(0, self._outstanding.get(lane, 0) - count)
        self._freed[lane] = self._freed.get(lane, 0) + count

    def counted(self, in_flight: Mapping[Lane, int]) -> None:
        """Takes over what the database counted."""
        self._outstanding = dict(in_flight)

    def room(self) -> dict[Lane, int]:
        """How many tasks of each lane may be admitted now; lanes without room or workers are left out.

        A lane whose lookahead is still half full is left out too: it is cheaper to admit several at once.
        """
        room = {}
        for lane, slots in self._slots.items():
            lookahead = max(1, math.ceil(self._rate.get(lane, 0.0) * LOOKAHEAD_S))
            free = slots + lookahead - self._outstanding.get(lane, 0)
            if slots and free > lookahead // 2:
                room[lane] = free
        return room
