"""Peers side by side, in one run, on one machine; what is printed is a ratio. See ``docs/benchmarks.md``."""
