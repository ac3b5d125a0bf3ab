"""One format of log lines for all processes: instant, level, logger, text.

The standard library's, because every process pays for what it imports.
"""

import logging
import time


def formatter() -> logging.Formatter:
    """``2026-01-31T12:00:00Z INFO tasks_app.dispatch.loop dispatcher: active``, in UTC."""
    made = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    made.converter = time.gmtime
    return made
