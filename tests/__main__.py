"""``python -m tests [faults]``: all tests, or the fault tests, in runs side by side.

They wait more than they compute. Each but the first run has services of its own to kill, and its output is shown when
it has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.paths import default_state_dir

FAULTS = "tests/faults"
#: About half of the fault tests, by the time that they take.
HALF = [f"{FAULTS}/test_{name}.py" for name in ("kills", "stops", "shutdown", "handlers")]
OTHER_HALF = [FAULTS, *[f"--ignore={file}" for file in HALF]]
#: By name, what each run is given.
RUNS = {
    "all": (["tests", f"--ignore={FAULTS}"], OTHER_HALF, HALF),
    "faults": (OTHER_HALF, HALF),
}


@dataclass(frozen=True, slots=True)
class Beside:
    """A run whose output goes to a log."""

    process: subprocess.Popen[bytes]
    log: Path


def main(name: str = "all") -> int:
    """Whether a run failed, as an exit code."""
    if name not in RUNS:
        _say(f"no runs '{name}'; there are: {', '.join(RUNS)}")
        return 2
    shown, *others = RUNS[name]
    began = time.monotonic()
    with ExitStack() as stack:
        beside = [stack.enter_context(_beside(number, args)) for number, args in enumerate(others, 1)]
        with _started(*shown) as first:
            first.wait()
        codes = [first.returncode]
        for run in beside:
            _say(f"==> beside that ran, and goes on until it has ended: {run.log}")
            codes.append(run.process.wait())
            _say(run.log.read_text())
    passed = not any(codes)
    _say(f"==> {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return 0 if passed else 1


@contextmanager
def _beside(number: int, args: list[str]) -> Iterator[Beside]:
    """A run with services of its own, which are stopped after it."""
    state_dir = default_state_dir() / f"beside-{number}"
    env = {**os.environ, "A2A_STATE_DIR": str(state_dir)}
    services = [sys.executable, "-m", "stack", "services"]
    subprocess.run(services, env=env, check=True, stdout=subprocess.DEVNULL)
    try:
        log = state_dir / "tests.log"
        with log.open("wb") as output, _started(*args, env=env, stdout=output, stderr=output) as process:
            try:
                yield Beside(process, log)
            finally:
                process.terminate()
    finally:
        subprocess.run([*services, "--stop"], env=env, check=False, stdout=subprocess.DEVNULL)


def _started(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "pytest", *args], **options)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
