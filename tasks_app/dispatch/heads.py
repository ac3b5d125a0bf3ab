"""What the dispatcher remembers of the groups that wait, so that a round need not look at every one of many.

A look at a group is one descent of an index, and there is a group for each lane, priority, agent and client: hundreds
of clients make thousands. Between two looks at all, a round looks only at those that a ring has named or that it took
from. What no ring names (a retry, what a lost worker held) is seen at the next look at all.
"""

from __future__ import annotations

import time

from tasks_app.engine.admit import GroupKey, Known

#: Fewer are looked at in every round.
MANY = 32
#: All are looked at this long after the last time, in seconds.
REMEMBER_S = 0.2


class Heads:
    """For one dispatcher."""

    def __init__(self) -> None:
        self._known = Known({})
        self._changed: set[GroupKey] = set()
        self._until = 0.0

    def forget(self) -> None:
        """Whatever has changed, the next round looks at all."""
        self._until = 0.0

    def changed(self, key: GroupKey) -> None:
        """Tasks of this group have come."""
        self._changed.add(key)

    def known(self) -> Known | None:
        """What a round may rely on; None where it is to look at all."""
        if len(self._known.heads) < MANY or time.monotonic() >= self._until:
            return None
        return Known(self._known.heads, {*self._known.changed, *self._changed})

    def learn(self, known: Known, *, everything: bool) -> None:
        """Takes over what a round knows that has looked at all, or at what had changed."""
        self._known, self._changed = known, set()
        if everything:
            self._until = time.monotonic() + REMEMBER_S
