"""How the table of slots lies in the memory that a worker's processes share. It is written and read by ``slots.py``."""

from __future__ import annotations

import ctypes

SLOTS_MAX = 1024


class Entry(ctypes.Structure):
    """One slot. Fields of eight bytes are written at once."""

    _fields_ = [
        ("pid", ctypes.c_int64),
        ("attempt", ctypes.c_char * 16),
        ("stop", ctypes.c_char * 16),  # the attempt that was told to stop
        ("agent", ctypes.c_char * 256),
        ("memory_mb", ctypes.c_int64),
        ("cores", ctypes.c_double),
        ("disk_mb", ctypes.c_int64),
        ("cpu_s", ctypes.c_double),
        ("heartbeat_timeout_s", ctypes.c_double),  # 0: none
        ("alive_at", ctypes.c_double),  # the machine's monotonic clock, which parent and children share
        ("handling", ctypes.c_int64),  # while the handler itself runs: only then it is measured and limited
        ("base_rss_bytes", ctypes.c_int64),
        ("base_pss_bytes", ctypes.c_int64),
        ("base_cpu_s", ctypes.c_double),
        ("peak_rss_bytes", ctypes.c_int64),  # both written by the parent
        ("peak_disk_bytes", ctypes.c_int64),
    ]


class Table(ctypes.Structure):
    """``running`` says which slots count: a byte each, side by side, since they are looked at many times a second."""

    _fields_ = [("draining", ctypes.c_int64), ("running", ctypes.c_uint8 * SLOTS_MAX), ("entries", Entry * SLOTS_MAX)]


# ctypes cuts a c_char array at its first NUL byte where it is read as an attribute, so ids are read by their offset.
ATTEMPT, STOP = Entry.attempt.offset, Entry.stop.offset


def place(index: int, offset: int) -> slice:
    """Where in the table an entry has the id of this offset."""
    start = Table.entries.offset + index * ctypes.sizeof(Entry) + offset
    return slice(start, start + 16)
