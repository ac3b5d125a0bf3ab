"""What an agent declares about its runs: retries, its circuit breaker, what it needs of a worker. Pure.

Clock and randomness are arguments; who applies a policy is named beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Which ends of an attempt are tried again, and when; applied by the worker that ran it.

    ``on`` are classes of exceptions that are tried again, ``never`` those of them that are not. ``codes`` are codes of
    ends by a limit, or of an :class:`~tasks_app.agents.AgentError`, that are tried again too: ``timeout``,
    ``out_of_memory``, ``cpu_limit``, ``disk_limit``. The delay is drawn evenly between 0 and
    ``initial_s * multiplier ** n``, at most ``max_s``, with n counting the failures before: exponential backoff with
    full jitter (AWS Architecture Blog, «Exponential Backoff And Jitter», 2015).
    """

    on: tuple[type[BaseException], ...] = (Exception,)
    never: tuple[type[BaseException], ...] = ()
    codes: frozenset[str] = frozenset()
    initial_s: float = 1.0
    multiplier: float = 2.0
    max_s: float = 300.0

    def __post_init__(self) -> None:
        if not (0 <= self.initial_s <= self.max_s and self.multiplier >= 1 and math.isfinite(self.max_s)):
            raise ValueError("RetryPolicy: 0 <= initial_s <= max_s and multiplier >= 1 must hold")

    def retries(self, error: BaseException) -> bool:
        """Whether an attempt that raised this is tried again."""
        return isinstance(error, self.on) and not isinstance(error, self.never)

    def delay_s(self, failures: int, chance: float) -> float:
        """How long to wait after that many failures before this one; ``chance`` is drawn evenly from 0 to 1."""
        # The exponent is cut, since the power would overflow long before the cap is forgotten.
        return chance * min(self.max_s, self.initial_s * self.multiplier ** min(failures, 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When an agent's circuit opens: ``failures`` in ``window_s``, and they are at least ``rate`` of all ends.

    ``rate`` 0.0 counts only. Open for ``open_s``, then half open: one task is let through as a probe. Applied by the
    dispatcher.
    """

    failures: int = 5
    rate: float = 0.0
    window_s: float = 60.0
    open_s: float = 30.0

    def __post_init__(self) -> None:
        if not (self.failures >= 1 and 0 <= self.rate <= 1 and self.window_s > 0 and self.open_s > 0):
            raise ValueError("BreakerPolicy: failures >= 1, 0 <= rate <= 1, window_s > 0 and open_s > 0 must hold")

    def trips(self, *, failed: int, ended: int) -> bool:
        """Whether it opens after that many failures among that many ends in the window."""
        return failed >= self.failures and failed >= self.rate * ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one run may use, and so what its worker must have free; 0 is «not said»: no limit, and always room.

    ``memory_mb`` is what it may add to its process (MiB), ``disk_mb`` what it may keep in its scratch folder (MiB),
    ``cores`` are processor cores, ``cpu_s`` is processor time (s). Enforced and measured in the cpu lane; the
    dispatcher places by memory, cores and disk in both.
    """

    memory_mb: int = 0
    cores: float = 0.0
    disk_mb: int = 0
    cpu_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.said().items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not 0 <= value <= _MOST[name]:
                raise ValueError(f"{name}: must be a number from 0 to {_MOST[name]:.0f}")
            if name in ("memory_mb", "disk_mb") and value != int(value):
                raise ValueError(f"{name}: must be whole")

    def said(self) -> dict[str, Any]:
        """What is not left open, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != 0}

    def with_asked(self, asked: Mapping[str, Any]) -> Resources:
        """These, with what a task asks for in their place. Raises ``ValueError`` whose text begins with the field."""
        if not asked:
            return self
        unknown = sorted(set(asked) - set(_MOST))
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown; there are: {', '.join(_MOST)}")
        return Resources(**{**self.said(), **asked})


#: The most that can be asked for: what the columns hold.
_MOST: dict[str, Any] = {"memory_mb": 2**30, "cores": 4096.0, "disk_mb": 2**30, "cpu_s": 30 * 86_400.0}

#: A task that says nothing.
UNSIZED = Resources()
#: More than any task may ask for.
BOUNDLESS = Resources(**_MOST)


def together(sizes: Sequence[Resources]) -> Resources:
    """What tasks of these sizes may use in all."""
    return Resources(
        memory_mb=min(sum(size.memory_mb for size in sizes), BOUNDLESS.memory_mb),
        cores=min(sum(size.cores for size in sizes), BOUNDLESS.cores),
        disk_mb=min(sum(size.disk_mb for size in sizes), BOUNDLESS.disk_mb),
    )
