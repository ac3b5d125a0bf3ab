"""``make bench``, or ``python -m benchmarks [submit] [drain] [memory]``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import drain, memory, submit
from stack import ensure_services

BENCHMARKS: dict[str, Callable[[dict[str, str]], None]] = {
    "submit": submit.main,
    "drain": drain.main,
    "memory": memory.main,
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
        return 2
    services = ensure_services()
    for name in names:
        print(f"== {name}")
        BENCHMARKS[name](services)
    return 0


if __name__ == "__main__":
    sys.exit(main())
