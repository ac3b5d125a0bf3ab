"""``python -m tests [faults]``: all tests, or the fault tests, two runs of them side by side.

They wait more than they compute. The second run has services of its own to kill, and its output is shown when it has
ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from stack.paths import default_state_dir

FAULTS = "tests/faults"
#: About half of the fault tests, by the time that they take.
HALF = [f"{FAULTS}/test_{name}.py" for name in ("kills", "stops", "shutdown", "handlers")]
FAULTS_PAIR = ([FAULTS, *[f"--ignore={file}" for file in HALF]], HALF)
#: And of the others.
BESIDE = ["tests/protocol", "tests/storage"]
OTHERS_PAIR = (["tests", f"--ignore={FAULTS}", *[f"--ignore={folder}" for folder in BESIDE]], BESIDE)
#: By name, the pairs of runs, one after the other, and what each run is given.
RUNS = {"all": (FAULTS_PAIR, OTHERS_PAIR), "faults": (FAULTS_PAIR,)}


def main(name: str = "all") -> int:
    """Whether a run failed, as an exit code."""
    if name not in RUNS:
        _say(f"no runs '{name}'; there are: {', '.join(RUNS)}")
        return 2
    began = time.monotonic()
    results = [_passed(*pair) for pair in RUNS[name]]
    passed = all(results)
    _say(f"==> {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return 0 if passed else 1


def _passed(shown: list[str], beside: list[str]) -> bool:
    """Whether all tests of the two runs have passed."""
    state_dir = default_state_dir() / "beside"
    env = {**os.environ, "A2A_STATE_DIR": str(state_dir)}
    services = [sys.executable, "-m", "stack", "services"]
    subprocess.run(services, env=env, check=True, stdout=subprocess.DEVNULL)
    log = state_dir / "tests.log"
    try:
        with log.open("wb") as output, _started(*beside, env=env, stdout=output, stderr=output) as second:
            try:
                with _started(*shown) as first:
                    first.wait()
                _say(f"==> that was the first run; the second, beside it, writes to {log}")
                second.wait()
            finally:
                second.terminate()
    finally:
        subprocess.run([*services, "--stop"], env=env, check=False, stdout=subprocess.DEVNULL)
    _say(log.read_text())
    return first.returncode == second.returncode == 0


def _started(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "pytest", *args], **options)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
