"""Silence for libraries whose warnings and log lines quote what stands in the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle", "PIL")
_SILENT = logging.CRITICAL + 1


@contextmanager
def quiet() -> Iterator[None]:
    """No warning and no log line of :data:`LOGGERS` or their children leaves this block.

    Changes process-wide state for its time: made for the cpu lane, where a process runs one task at a time.
    """
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in LOGGERS]
    loggers = [logging.getLogger(name) for name in {*LOGGERS, *names}]
    levels = [(logger, logger.level) for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(_SILENT)
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)
