"""``python -m tests``: all tests, in two runs side by side, since they wait more than they compute.

The fault tests have services of their own to kill; their output is shown when they have ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from stack.paths import default_state_dir

FAULTS = "tests/faults"


def main() -> int:
    """Whether a run failed, as an exit code."""
    state_dir = default_state_dir() / "faults"
    env = {**os.environ, "A2A_STATE_DIR": str(state_dir)}
    began = time.monotonic()
    services = [sys.executable, "-m", "stack", "services"]
    subprocess.run(services, env=env, check=True, stdout=subprocess.DEVNULL)
    log = state_dir / "tests.log"
    try:
        with log.open("wb") as output, _started(FAULTS, env=env, stdout=output, stderr=output) as faults:
            try:
                with _started("tests", f"--ignore={FAULTS}") as others:
                    others.wait()
                _say(f"==> the others have ended; fault tests, which run beside them, write to {log}")
                faults.wait()
            finally:
                faults.terminate()
    finally:
        subprocess.run([*services, "--stop"], env=env, check=False, stdout=subprocess.DEVNULL)
    passed = others.returncode == faults.returncode == 0
    _say(log.read_text())
    _say(f"==> {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return 0 if passed else 1


def _started(*args: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "pytest", *args], **options)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
