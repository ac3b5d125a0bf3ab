"""A process that puts or collects a blob, and is killed at a point: ``python -m tests.storage.crash <point>``."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import django

django.setup()

from django.conf import settings
from django.db import transaction

from artifacts_app import blobs, collector
from tests.storage.test_blobs import bytes_of

CONTENT = bytes_of(3_000_000)


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def after(module: Any, name: str) -> None:
    """Dies when this function has done what it does."""
    really: Callable[..., Any] = getattr(module, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        really(*args, **kwargs)
        die()

    setattr(module, name, called)


def half() -> Iterator[bytes]:
    yield CONTENT[:2_000_000]
    die()


def put(point: str) -> None:
    if point == "before the first byte":
        blobs._save = die
    elif point == "before the row says that all is there":
        blobs._finished = die
    content: Any = half() if point == "in the middle of the bytes" else [CONTENT]
    blobs.put_stream(content)
    die()  # "before anything names it"


def fill(_: str) -> None:
    """Puts more than the process may write into a file, as where the disk is full; ends by itself."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        blobs.put(CONTENT)
    except blobs.StorageFailed as error:
        sys.stdout.write(str(error))


def collect(point: str) -> None:
    storage = type(blobs.storage_of(settings.A2A_ARTIFACT_STORAGE[0]))
    if point == "after the row, before its bytes":
        after(collector, "_remove")
    elif point == "after the bytes, before it is known":
        after(storage, "delete")
    elif point == "in the transaction that removes the row":
        transaction.Atomic.__exit__ = die  # type: ignore[method-assign]
    collector.collect()
    die()


if __name__ == "__main__":
    {"collect": collect, "put": put, "fill": fill}[sys.argv[1]](sys.argv[2])
