"""A worker's node as Celery's signals make it, without Celery."""

from __future__ import annotations

from tasks_app.policies import Resources
from tasks_app.status import Lane
from workers.node import Node
from workers.runner import CpuRunner
from workers.scratch import ScratchRoot
from workers.slots import SlotTable
from workers.watch import Watch


def cpu_node(table: SlotTable, capacity: Resources) -> Node:
    """Of the cpu lane, with two slots; its scratch folders are below ``tempfile.tempdir``."""
    root = ScratchRoot()
    return Node(
        name="worker-1",
        lane=Lane.CPU,
        slots=2,
        running=Watch(table, root, on_loss=lambda: None),
        runner=CpuRunner(table, root),
        capacity=capacity,
        scratch=root,
    )
