"""``manage.py a2a batch FILE``: a file of tasks as one batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError

from tasks_app import batch_items, engine
from tasks_app.engine import Cancelled
from tasks_app.management.batches import Items
from tasks_app.models import Batch, Client, Task
from tests.factory import Factory
from tests.unit.test_a2a_command import a2a

pytestmark = pytest.mark.django_db
HEAD = {"batch": {"name": "scans", "defaults": {"agent": "echo"}}}


def item(text: str = "x", **fields: Any) -> dict[str, Any]:
    return {"message": {"parts": [{"text": text}]}, **fields}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "tasks.ndjson"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def submit(path: Path, *options: str) -> tuple[int, list[str]]:
    return a2a("batch", path, "--client", "owner", "--no-wait", *options)


def test_it_is_submitted_for_its_client(owner: Client, tmp_path: Path) -> None:
    code, said = submit(written(tmp_path, HEAD, item("a"), "", item("b", priority="critical")))
    batch = Batch.objects.get()
    assert (code, said) == (0, [f"batch {batch.id}: 2 of 2 tasks accepted"])
    assert (batch.client_id, batch.name, batch.size) == (owner.pk, "scans", 2)
    texts = [task.messages[0].parts[0].text for task in Task.objects.order_by("batch_index").select_related("request")]
    assert texts == ["a", "b"]


def test_the_same_file_under_a_key_is_the_same_batch(owner: Client, tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, item())
    assert submit(path, "--key", "k") == submit(path, "--key", "k")
    assert Task.objects.count() == 1
    code, said = submit(written(tmp_path, HEAD, item("other")), "--key", "k")
    assert (code, said[0]) == (2, "Idempotency-Key: was used before, for another request")


def test_what_is_wrong_is_said_and_nothing_is_left(owner: Client, tmp_path: Path) -> None:
    code, said = submit(written(tmp_path, HEAD, item(), "{", item(agent="nobody")))
    assert code == 2
    assert said[0].startswith("2 of 3 tasks are wrong, and none was accepted; tasks[1]: ")
    assert [line.split(":")[0].strip() for line in said[1:]] == ["tasks[1]", "tasks[2].agent"]
    assert not Batch.objects.exists()
    assert submit(written(tmp_path, '{"batch": 1}'))[0] == 2
    assert submit(written(tmp_path, ""))[1][0].startswith("tasks: is required")


def test_or_what_is_right_is_accepted(owner: Client, tmp_path: Path) -> None:
    head = {"batch": {**HEAD["batch"], "atomic": False}}
    code, said = submit(written(tmp_path, head, item(), item(priority="huge")))
    assert (code, said[0].partition(": ")[2]) == (1, "1 of 2 tasks accepted")
    assert said[1].startswith("  tasks[1]: priority: ")


def test_it_waits_until_all_have_ended_and_says_how(
    owner: Client, factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(seconds: float) -> None:
        done: list[Cancelled] = engine.run(engine.request_cancel, Batch.objects.get().open_ids()[:1], by="a test")
        assert done

    monkeypatch.setattr("tasks_app.management.batches.time.sleep", cancelled)
    code, said = a2a("batch", written(tmp_path, HEAD, item(), item()), "--client", "owner")
    assert (code, said[-1]) == (1, "2 cancelled")
    assert any("2/2" in line for line in said)


def test_a_client_or_a_file_that_is_not_there_is_said(owner: Client, tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, item())
    assert a2a("batch", path, "--client", "nobody") == (1, ["no client 'nobody'; there are: owner"])
    with pytest.raises(CommandError, match=r"tasks\.txt is no file"):
        a2a("batch", tmp_path / "tasks.txt")


def test_the_limits_of_the_client_hold(owner: Client, tmp_path: Path) -> None:
    Client.objects.update(max_queued=1)
    code, said = submit(written(tmp_path, HEAD, item(), item()))
    assert (code, said[0]) == (2, "max_queued: at most 1 of your tasks may wait")


def test_many_large_messages_are_stored_a_few_at_a_time(
    owner: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []
    create = engine.create

    def seen(items: Any) -> Any:
        stored.append(len(items))
        return create(items)

    monkeypatch.setattr(engine, "create", seen)
    large = "x" * (batch_items.CHUNK_BYTES // 2)
    assert submit(written(tmp_path, HEAD, *[item(large)] * 5))[0] == 0
    assert stored == [2, 2, 1]


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    items = Items(written(tmp_path, HEAD, item("a"), item("b")))
    assert (len(items), list(items), list(items)) == (2, [item("a"), item("b")], [item("a"), item("b")])
