"""``python -m tests [faults]``: all tests, or the fault tests, in two runs side by side.

They wait more than they compute. The second run has services of its own to kill; its output is shown when it has ended.
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
#: By name, what each of the two runs is given.
RUNS = {
    "all": (["tests", f"--ignore={FAULTS}"], [FAULTS]),
    "faults": ([FAULTS, *[f"--ignore={file}" for file in HALF]], HALF),
}


def main(name: str = "all") -> int:
    """Whether a run failed, as an exit code."""
    first, second = RUNS[name]
    state_dir = default_state_dir() / "faults"
    env = {**os.environ, "A2A_STATE_DIR": str(state_dir)}
    began = time.monotonic()
    services = [sys.executable, "-m", "stack", "services"]
    subprocess.run(services, env=env, check=True, stdout=subprocess.DEVNULL)
    log = state_dir / "tests.log"
    try:
        with log.open("wb") as output, _started(*second, env=env, stdout=output, stderr=output) as beside:
            try:
                with _started(*first) as shown:
                    shown.wait()
                _say(f"==> that was the first run; the second, beside it, writes to {log}")
                beside.wait()
            finally:
                beside.terminate()
    finally:
        subprocess.run([*services, "--stop"], env=env, check=False, stdout=subprocess.DEVNULL)
    passed = shown.returncode == beside.returncode == 0
    _say(log.read_text())
    _say(f"==> {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return 0 if passed else 1


def _started(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "pytest", *args], **options)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
