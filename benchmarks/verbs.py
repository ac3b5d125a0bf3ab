"""``python -m benchmarks.verbs <tasks> <singly>``: the engine's create and admit, in lists and one by one.

Prints, as JSON, tasks per second by verb: ``{"create": [in lists, one by one], "admit": […]}``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import django

django.setup()

from benchmarks.seed import local, new_task
from tasks_app import engine
from tasks_app.a2a.extension import TaskOptions
from tasks_app.batch_items import CHUNK
from tasks_app.dispatch.plan import Plan, Rules
from tasks_app.status import Lane


def main(tasks: int, singly: int) -> None:
    create = [_rate(_create, tasks, CHUNK), _rate(_create, singly, 1)]
    admit = [_rate(_admit, tasks, CHUNK), _rate(_admit, singly, 1)]
    print(json.dumps({"create": create, "admit": admit}))


def _rate(act: Callable[[int], float], tasks: int, at_once: int) -> float:
    """Tasks per second, of the time that the verb itself took."""
    return tasks / sum(act(at_once) for _ in range(tasks // at_once))


def _create(count: int) -> float:
    items = [new_task(caller, "pause", TaskOptions()) for _ in range(count)]
    began = time.perf_counter()
    engine.run(engine.create, items)
    return time.perf_counter() - began


def _admit(count: int) -> float:
    began = time.perf_counter()
    found = engine.run(
        engine.admit, lambda scene: Plan({Lane.IO: count}, Rules(), scene, served={}), rates={}, probing=[]
    )
    took = time.perf_counter() - began
    assert len(found.hints) == count
    return took


if __name__ == "__main__":
    caller = local()
    main(*map(int, sys.argv[1:]))
