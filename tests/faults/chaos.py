"""Faults of every kind over a running stack, in an order and for times that a seed decides.

Three hands work at the same time: on the lanes' workers, on the other processes, on the services and what is in the
broker. Each has a deck with every fault that it knows, shuffles it and plays it to the end, so that each seed sees them
all, in other company.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from stack import Services, StackError
from tests.faults.broker import Broker
from tests.faults.load import Load
from tests.faults.processes import BUSY, Second, family, stopped
from tests.live import wait_for

LANES = ("worker-cpu", "worker-io")
OTHERS = ("web", "dispatcher", "worker-system", "beat")
SERVERS = ("postgresql", "redis", "rabbitmq")
PAUSE_S = 0.5
REPEATS = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """Done and undone by one call, which takes ``hold_s`` and more."""

    name: str
    hold_s: float
    inflict: Callable[[float], None]


class Chaos:
    """The faults of one run, and their journal."""

    def __init__(self, load: Load, services: Services, broker: Broker, seconds: Sequence[Second], *, seed: int) -> None:
        self._load, self._live = load, load.live
        self._services, self._broker, self._seconds = services, broker, seconds
        self._rng = random.Random(seed)
        self._began_at = time.monotonic()
        self._never = threading.Event()
        self.journal: list[str] = []

    def run(self) -> None:
        """Plays the decks; raises what a hand could not do."""
        decks = [self._of_lanes(), self._of_processes(), self._of_services()]
        for deck in decks:
            self._rng.shuffle(deck)
        with ThreadPoolExecutor(len(decks)) as pool:
            for hand in [pool.submit(self._play, deck) for deck in decks]:
                hand.result()

    def put_back(self) -> None:
        """Starts whatever is down."""
        for name in SERVERS:
            self._services.start_process(name)
            self._services.wait_ready(name)
        wait_for(self._all_up, timeout_s=60, what="every process runs again")

    # Decks -----------------------------------------------------------------------------------------------------------

    def _of_lanes(self) -> list[Fault]:
        hold = self._rng.uniform
        deck = [Fault(f"kill {name}", hold(0, 2), self._kill(name)) for name in LANES]
        # Past its leases: a shorter stop would only make it late.
        deck += [Fault(f"stop {name}", hold(6, 7), self._stop(name)) for name in LANES]
        deck += [Fault(f"restart {name}", 0, self._restart(name)) for name in LANES]
        deck += [Fault("kill a child of worker-cpu", 0, self._kill_child) for _ in range(2)]
        return [*deck, Fault("stop a child of worker-cpu", hold(1, 2), self._stop_child)]

    def _of_processes(self) -> list[Fault]:
        hold = self._rng.uniform
        deck = [Fault(f"kill {name}", hold(0, 2), self._kill(name)) for name in OTHERS]
        deck += [Fault(f"stop {name}", hold(1, 3), self._stop(name)) for name in OTHERS]
        deck += [Fault(f"restart {name}", 0, self._restart(name)) for name in OTHERS]
        for other in self._seconds:
            deck += [Fault(f"kill {other.name}", hold(0, 1), self._kill_second(other))]
            deck += [Fault(f"stop {other.name}", hold(1, 3), self._stop_second(other))]
        return deck

    def _of_services(self) -> list[Fault]:
        hold = self._rng.uniform
        deck = [Fault(f"kill {name}", hold(0, 2), self._kill_service(name)) for name in SERVERS]
        deck += [Fault(f"stop {name}", hold(2, 5), self._stop_service(name)) for name in SERVERS]
        for name, inflict in (("purge", self._broker.purge), ("delete", self._broker.delete)):
            deck += [Fault(f"{name} the queues", hold(1, 2), self._then_wait(inflict)) for _ in range(2)]
        deck += [Fault("repeat messages", hold(1, 2), self._then_wait(self._repeat)) for _ in range(3)]
        return [*deck, Fault("put garbage into the queues", hold(1, 2), self._then_wait(self._broker.litter))]

    def _play(self, deck: Sequence[Fault]) -> None:
        for fault in deck:
            self._note(f"{fault.name} ({fault.hold_s:.1f} s)")
            fault.inflict(fault.hold_s)
            self._pause(PAUSE_S)

    def _note(self, text: str) -> None:
        self.journal.append(f"{time.monotonic() - self._began_at:6.1f} s  {text}")

    def _pause(self, seconds: float) -> None:
        self._never.wait(seconds)

    # Processes -------------------------------------------------------------------------------------------------------

    def _kill(self, name: str) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            self._busy(name)
            self._live.stack.kill(name)
            self._pause(hold_s)
            self._running(name)

        return inflict

    def _stop(self, name: str) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            self._busy(name)
            with stopped(family(self._live.stack.pid(name))):
                self._pause(hold_s)

        return inflict

    def _restart(self, name: str) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            self._live.stack.stop_process(self._running(name))
            self._running(name)

        return inflict

    def _kill_second(self, other: Second) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            other.end()
            self._pause(hold_s)
            other.start()

        return inflict

    def _stop_second(self, other: Second) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            with stopped([other.pid] if other.pid else []):
                self._pause(hold_s)

        return inflict

    def _kill_child(self, hold_s: float) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._busy("worker-cpu"), signal.SIGKILL)

    def _stop_child(self, hold_s: float) -> None:
        with suppress(ProcessLookupError), stopped([self._busy("worker-cpu")]):
            self._pause(hold_s)

    def _busy(self, name: str) -> int:
        """The process of an attempt that a lane's worker runs, once there is one: a fault that hits nothing shows
        nothing. For the others only sees to it that they run."""
        pid = self._live.stack.pid(self._running(name))
        if name not in LANES:
            return pid
        return int(wait_for(lambda: self._live.sql(BUSY, pid), what=f"{name} runs something")[0][0])

    def _running(self, name: str) -> str:
        """The name, once its process is up; starts it until it stays up, as a supervisor would."""

        def up() -> bool:
            if self._live.stack.supervisor.process(name).is_up:
                return True
            with suppress(StackError):
                self._live.stack.start_process(name)
            return False

        wait_for(up, what=f"{name} runs")
        return name

    def _all_up(self) -> bool:
        for name in (*LANES, *OTHERS):
            self._running(name)
        for other in self._seconds:
            if not other.pid:
                other.start()
        return self._live.online_workers() >= {"cpu", "io"}

    # Services --------------------------------------------------------------------------------------------------------

    def _kill_service(self, name: str) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            self._services.kill(name)
            self._pause(hold_s)
            self._services.start_process(name)
            self._services.wait_ready(name)

        return inflict

    def _stop_service(self, name: str) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            with stopped(family(self._services.pid(name))):
                self._pause(hold_s)

        return inflict

    def _then_wait(self, act: Callable[[], None]) -> Callable[[float], None]:
        def inflict(hold_s: float) -> None:
            act()
            self._pause(hold_s)

        return inflict

    def _repeat(self) -> None:
        """Of some tasks that wait or run, and of some that have ended."""
        statuses = list(self._load.look().items())
        chosen = self._rng.sample(statuses, min(3, len(statuses)))
        chosen += [item for item in statuses if item[1] in ("pending", "running")][:3]
        self._broker.repeat(self._live, [task_id for task_id, _ in chosen], times=REPEATS)
