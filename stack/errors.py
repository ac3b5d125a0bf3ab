"""What can go wrong while starting or stopping processes, each with the exit code of the command line."""

from __future__ import annotations


class StackError(Exception):
    """Something the user can understand and mend; its text is shown without a traceback."""

    exit_code = 1


class PortInUse(StackError):
    """The address asked for belongs to another program."""


class AlreadyRunning(StackError):
    """A stack of the same state folder is running."""


class MissingService(StackError):
    """A service was neither given nor found, and could not be installed or run in a container."""

    exit_code = 2
