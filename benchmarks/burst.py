"""Two thousand tasks of five seconds at once in one io worker: how close to five seconds, and how much memory."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from benchmarks import ours
from benchmarks.figures import median, verdict

TASK_S = 5.0
TARGET_RATIO, TARGET_MB = 1.4, 300
SAMPLE_S = 0.5

SPAN = """
SELECT extract(epoch FROM max(completed_at) - min(created_at))::float8,
       extract(epoch FROM max(created_at) - min(created_at))::float8,
       extract(epoch FROM max(started_at) - min(created_at))::float8,
       count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE attempt > 1)
FROM (SELECT * FROM tasks_app_task ORDER BY id DESC LIMIT %s) task
"""


def main(services: dict[str, str], *, tasks: int = 2000, rounds: int = 3) -> None:
    """Prints each round and the median; the ideal is the five seconds that one task takes."""
    env = ours.environment(services, "burst")
    ratios, peaks = [], []
    for number in range(1, rounds + 1):
        # A fresh worker each time: the memory that counts is that of its first burst.
        with ours.dispatcher(env), ours.worker(env, "io", tasks) as worker:
            ours.wait_online(env, "io")
            with PeakPss(worker.pid) as memory:
                ours.seed(env, "pause", tasks, seconds=TASK_S)
                ours.wait_completed(env, number * tasks, timeout_s=120)
        took_s, accepted_s, started_s, completed, repeated = ours.rows(env, SPAN, tasks)[0]
        ratios.append(took_s / TASK_S)
        peaks.append(memory.peak_mb)
        print(
            f"  round {number}: {took_s:.2f} s (the last accepted after {accepted_s:.2f} s, started after"
            f" {started_s:.2f} s); {memory.idle_mb:.0f} MB idle, {memory.peak_mb:.0f} MB at most;"
            f" {completed} completed, {repeated} repeated"
        )
    ratio, peak = median(ratios), max(peaks)
    print(
        f"{tasks} io tasks of {TASK_S:g} s at once, median ratio to {TASK_S:g} s: {ratio:.2f}"
        f" (target <= {TARGET_RATIO}: {verdict(ratio, TARGET_RATIO)});"
        f" the worker's peak PSS: {peak:.0f} MB (target < {TARGET_MB}: {verdict(peak, TARGET_MB)})"
    )


class PeakPss:
    """The most memory that a process holds while the block runs, sampled on a thread, in MB."""

    def __init__(self, pid: int) -> None:
        self._rollup = Path(f"/proc/{pid}/smaps_rollup")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.idle_mb = self.peak_mb = 0.0

    def __enter__(self) -> PeakPss:
        self.idle_mb = self.peak_mb = self._pss_mb()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.peak_mb = max(self.peak_mb, self._pss_mb())

    def _pss_mb(self) -> float:
        found = re.search(r"^Pss:\s+(\d+) kB", self._rollup.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 / 1e6 if found else 0.0
