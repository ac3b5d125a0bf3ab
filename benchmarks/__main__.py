"""``make bench``, or ``python -m benchmarks [<name> [<size>=<number> ...]] ...``"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import a2a, batch, burst, download, drain, latency, memory, priority, resources, scale, streams
from stack import ensure_services


@dataclass(frozen=True, slots=True)
class Benchmark:
    run: Callable[..., None]
    takes: str

    @property
    def sizes(self) -> dict[str, int]:
        """The keyword arguments of its ``main``, with their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


BENCHMARKS = {
    "a2a": Benchmark(a2a.main, "2.5 min"),
    "streams": Benchmark(streams.main, "1 min"),
    "batch": Benchmark(batch.main, "2 min"),
    "download": Benchmark(download.main, "1 min"),
    "drain": Benchmark(drain.main, "3 min"),
    "latency": Benchmark(latency.main, "2 min"),
    "priority": Benchmark(priority.main, "1.5 min"),
    "burst": Benchmark(burst.main, "1 min"),
    "resources": Benchmark(resources.main, "2.5 min"),
    "scale": Benchmark(scale.main, "4 min, 2.5 GB of disk"),
    "memory": Benchmark(memory.main, "0.5 min"),
}


def main(words: list[str]) -> int:
    if {"-h", "--help"} & set(words):
        print(_help())
        return 0
    try:
        chosen = _chosen(words) or [(name, {}) for name in BENCHMARKS]
    except ValueError as error:
        print(f"{error}\n{_help()}")
        return 2
    services = ensure_services()
    for name, sizes in chosen:
        print(f"== {name}", flush=True)
        BENCHMARKS[name].run(services, **sizes)
    return 0


def _chosen(words: list[str]) -> list[tuple[str, dict[str, int]]]:
    """The benchmarks named, each with the sizes given behind it. Raises ValueError for what there is not."""
    chosen: list[tuple[str, dict[str, int]]] = []
    for word in words:
        name, given, number = word.partition("=")
        if given and chosen and name in BENCHMARKS[chosen[-1][0]].sizes and number.isdigit():
            chosen[-1][1][name] = int(number)
        elif not given and name in BENCHMARKS:
            chosen.append((name, {}))
        else:
            raise ValueError(f"no benchmark or size '{word}'")
    return chosen


def _help() -> str:
    lines = ["python -m benchmarks [<name> [<size>=<number> ...]] ...; if none is named, all of them in turn:"]
    for name, benchmark in BENCHMARKS.items():
        sizes = " ".join(f"{size}={default}" for size, default in benchmark.sizes.items())
        lines.append(f"  {name:<10} about {benchmark.takes:<24} {sizes}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
