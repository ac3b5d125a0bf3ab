"""What the engine's verbs cost when the tables are large: a million finished tasks and 100,000 pending ones."""

from benchmarks.scale.compare import main

__all__ = ["main"]
