"""How much may be outstanding in each lane: the live slots and a small lookahead that follows their rate. Pure.

What waits in the broker takes no room from what is more urgent: each priority has a queue of its own there.
"""

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
        self._admitted: dict[tuple[Lane, int], int] = {}

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

    def counted(self, in_flight: Mapping[Lane, int], admitted: Mapping[tuple[Lane, int], int]) -> None:
        """Takes over what the database counted: all that is outstanding, and what of it waits in the broker."""
        self._outstanding = dict(in_flight)
        self._admitted = dict(admitted)

    def free(self) -> dict[Lane, int]:
        """The room that is left in each lane with workers; negative where more is outstanding than fits."""
        return {
            lane: slots + self._lookahead(lane) - self._outstanding.get(lane, 0)
            for lane, slots in self._slots.items()
            if slots
        }

    def is_open(self) -> bool:
        """Whether a lane has room worth a round: not while its lookahead is half full, since several cost as one."""
        return any(free > self._lookahead(lane) // 2 for lane, free in self.free().items())

    def passes(self, priority: int) -> bool:
        """Whether a task of this priority could pass others that wait in the broker, in any lane."""
        for lane, free in self.free().items():
            passed = behind(self._admitted, lane, priority)
            if passed and free + passed > 0:
                return True
        return False

    def _lookahead(self, lane: Lane) -> int:
        return max(1, math.ceil(self._rate.get(lane, 0.0) * LOOKAHEAD_S))


def behind(admitted: Mapping[tuple[Lane, int], int], lane: str, priority: int) -> int:
    """Of what waits in the broker, by lane and priority, how many of this lane are less urgent."""
    return sum(count for (of, level), count in admitted.items() if of == lane and level > priority)
