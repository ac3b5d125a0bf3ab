"""Scratch folders: of an attempt, of a worker, and what a killed worker left."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.children import Children, died
from tests.live import wait_for
from workers import scratch
from workers.scratch import Scratch, ScratchRoot


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def fork() -> Iterator[Children]:
    children = Children()
    yield children
    children.end()


def test_the_folder_of_an_attempt_is_made_when_asked_for_and_nobody_elses(tmp: Path) -> None:
    root, attempt = ScratchRoot(), uuid4()
    one = root.of(attempt)
    assert not one.path.exists()
    assert one.folder() == one.folder() == root.of(attempt).path
    assert one.path.stat().st_mode & 0o077 == 0
    assert root.path.stat().st_mode & 0o077 == 0


def test_what_is_in_it_is_summed_and_removed(tmp: Path) -> None:
    one = Scratch(tmp / "one")
    assert one.used_bytes() == 0
    (one.folder() / "deep" / "er").mkdir(parents=True)
    for name in ("a", "deep/b", "deep/er/c"):
        (one.path / name).write_bytes(b"x" * 8192)
    (one.path / "link").symlink_to("/usr")
    assert 3 * 8192 <= one.used_bytes() < 4 * 8192
    one.remove()
    assert not one.path.exists()
    one.remove()


def test_a_worker_that_stops_leaves_nothing(tmp: Path) -> None:
    root = ScratchRoot()
    (root.of(uuid4()).folder() / "a").write_text("x")
    root.remove()
    assert list(tmp.iterdir()) == []


def test_what_a_killed_worker_left_is_removed_and_a_living_ones_is_not(tmp: Path, fork: Children) -> None:
    own = ScratchRoot()

    def worker() -> None:
        (ScratchRoot().of(uuid4()).folder() / "a").write_text("x")

    pid = fork(worker)
    others = wait_for(lambda: [path for path in tmp.iterdir() if path != own.path and list(path.glob("*/a"))])
    scratch.remove_stale()
    assert sorted(tmp.iterdir()) == sorted([own.path, *others])
    os.kill(pid, signal.SIGKILL)
    died(pid)
    scratch.remove_stale()
    assert list(tmp.iterdir()) == [own.path]


def test_only_folders_of_workers_are_removed(tmp: Path) -> None:
    (tmp / "somebody-elses").mkdir()
    (tmp / "a2a-scratch-file").write_text("x")
    target = tmp / "target"
    target.mkdir()
    (tmp / "a2a-scratch-link").symlink_to(target)
    before = sorted(tmp.iterdir())
    scratch.remove_stale()
    assert sorted(tmp.iterdir()) == before
