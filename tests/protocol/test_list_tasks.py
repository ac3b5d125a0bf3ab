"""ListTasks over the three bindings (A2A 1.0, section 3.1.4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from tasks_app import engine, listing
from tasks_app.engine import ArtifactRecord, Chunk, Finish, Note
from tasks_app.engine.core import Statement, Steps
from tasks_app.models import Outcome, Task
from tasks_app.status import TaskStatus
from tests.factory import Factory, completed
from tests.protocol.bindings import BINDINGS, Binding, Refused
from tests.protocol.doors import Doors, each


def listed(binding: Binding, **params: Any) -> list[str]:
    return [task["id"] for task in binding.call("ListTasks", params).get("tasks", [])]


def newest_first() -> list[str]:
    """As the specification has it: by the time of the state."""
    return [str(task_id) for task_id in Task.objects.order_by("-status_at", "-id").values_list("id", flat=True)]


def test_what_changed_its_state_last_comes_first(binding: Binding, local: Factory) -> None:
    first, second, third = local.pending(), local.claimed(), local.pending()
    local.write(local.claim(local_admitted(first)), finish=Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED))
    assert listed(binding) == newest_first() == [str(first), *sorted_by_time(second.task_id, third)]
    # Progress is no change of state.
    local.write(second, Note(progress=0.5))
    assert listed(binding) == newest_first()


def local_admitted(task_id: UUID) -> UUID:
    from tasks_app.status import Lane
    from tests.factory import admit

    admit({Lane.IO: 10, Lane.CPU: 10})
    return task_id


def sorted_by_time(*task_ids: UUID) -> list[str]:
    at = dict(Task.objects.values_list("id", "status_at"))
    return [str(task_id) for task_id in sorted(task_ids, key=lambda task_id: at[task_id], reverse=True)]


def test_pages_give_every_task_once_though_others_come_and_change(binding: Binding, local: Factory) -> None:
    for _ in range(7):
        local.pending()
    before = newest_first()
    seen: list[str] = []
    token = ""
    while True:
        page = binding.call("ListTasks", {"pageSize": 3, "pageToken": token})
        seen += [task["id"] for task in page["tasks"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
        local.pending()
        engine.run(engine.request_cancel, [UUID(seen[0])], by="a test")
    assert seen == before


def test_tasks_of_one_instant_are_paged_by_their_ids(binding: Binding, local: Factory) -> None:
    for _ in range(5):
        local.pending()
    Task.objects.update(status_at=datetime(2026, 1, 1, tzinfo=UTC))
    page = binding.call("ListTasks", {"pageSize": 2})
    more = binding.call("ListTasks", {"pageSize": 3, "pageToken": page["nextPageToken"]})
    assert [task["id"] for task in page["tasks"] + more["tasks"]] == newest_first()
    assert not more.get("nextPageToken")


@pytest.mark.parametrize("name", ["jsonrpc", "rest"])
def test_a_list_always_says_how_long_it_is(doors: Doors, local: Factory, name: str) -> None:
    binding = BINDINGS[name](doors)
    assert binding.call("ListTasks", {}) == {"tasks": [], "nextPageToken": "", "pageSize": 50, "totalSize": 0}
    for _ in range(3):
        local.pending()
    page = binding.call("ListTasks", {"pageSize": 2})
    assert (len(page["tasks"]), page["pageSize"], page["totalSize"]) == (2, 2, 3)


@pytest.mark.parametrize(
    ("state", "statuses"),
    [
        ("TASK_STATE_UNSPECIFIED", set(TaskStatus) | {"retried"}),
        ("TASK_STATE_SUBMITTED", {TaskStatus.PENDING}),
        ("TASK_STATE_WORKING", {TaskStatus.RUNNING, "retried"}),
        ("TASK_STATE_INPUT_REQUIRED", {TaskStatus.INPUT_REQUIRED}),
        ("TASK_STATE_AUTH_REQUIRED", {TaskStatus.AUTH_REQUIRED}),
        ("TASK_STATE_COMPLETED", {TaskStatus.COMPLETED}),
        ("TASK_STATE_FAILED", {TaskStatus.FAILED}),
        ("TASK_STATE_CANCELED", {TaskStatus.CANCELLED}),
        ("TASK_STATE_REJECTED", {TaskStatus.REJECTED}),
    ],
)
def test_a_state_of_the_wire_finds_the_tasks_that_are_in_it(
    binding: Binding, local: Factory, state: str, statuses: set[Any]
) -> None:
    """Pending is SUBMITTED before the first attempt, and WORKING after."""
    ids: dict[str, str] = {status: str(local.in_state(status)) for status in TaskStatus if status != TaskStatus.PENDING}
    retry = Finish(status=TaskStatus.PENDING, outcome=Outcome.RETRIED)
    ids |= {"retried": str(local.finished(retry)), TaskStatus.PENDING: str(local.pending())}
    found = binding.call("ListTasks", {"status": state})["tasks"]
    assert {task["id"] for task in found} == {ids[status] for status in statuses}
    if state != "TASK_STATE_UNSPECIFIED":
        assert {task["status"]["state"] for task in found} == {state}


def test_a_context_and_a_time_narrow_the_list(binding: Binding, local: Factory) -> None:
    ids = [str(local.pending(context_id=context)) for context in ("a", "b", "a")]
    assert set(listed(binding, contextId="a")) == {ids[0], ids[2]}
    assert listed(binding, contextId="none") == []
    at = Task.objects.get(id=ids[1]).status_at
    assert listed(binding, statusTimestampAfter=at.isoformat()) == [ids[2], ids[1]]
    assert listed(binding, contextId="a", statusTimestampAfter=at.isoformat()) == [ids[2]]
    assert listed(binding, statusTimestampAfter=(at + timedelta(days=1)).isoformat()) == []


def test_a_list_holds_the_callers_tasks_of_this_agent_and_no_others(
    binding: Binding, local: Factory, factory: Factory
) -> None:
    mine = str(local.pending())
    local.pending(agent="sleep")
    factory.pending()
    page = binding.call("ListTasks", {})
    assert ([task["id"] for task in page["tasks"]], page["totalSize"]) == ([mine], 1)


def test_history_and_artifacts_come_only_where_they_are_asked_for(binding: Binding, local: Factory) -> None:
    chunk = Chunk(kind="text", content=b"done", media_type="text/plain")
    local.write(local.claimed(message_id="m"), ArtifactRecord(artifact_id="a", chunks=(chunk,), event=b""))
    plain = binding.call("ListTasks", {})["tasks"][0]
    assert not {"history", "artifacts"} & set(plain)
    (said,) = binding.call("ListTasks", {"historyLength": 5})["tasks"][0]["history"]
    assert said["messageId"] == "m"
    (artifact,) = binding.call("ListTasks", {"includeArtifacts": True})["tasks"][0]["artifacts"]
    assert (artifact["artifactId"], artifact["parts"][0]["text"]) == ("a", "done")


def test_a_page_ends_where_its_artifacts_grow_large(
    binding: Binding, local: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ARTIFACTS_MAX_BYTES", 100)
    for size_bytes in (30, 200, 60, 40):
        chunk = Chunk(kind="text", content=b"a" * size_bytes, media_type="text/plain")
        record = ArtifactRecord(artifact_id="a", chunks=(chunk,), event=b"")
        local.write(local.claimed(), record, finish=completed())
    sizes, token = [], ""
    while True:
        page = binding.call("ListTasks", {"includeArtifacts": True, "pageToken": token})
        sizes.append([len(task["artifacts"][0]["parts"][0]["text"]) for task in page["tasks"]])
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert sizes == [[40, 60], [200], [30]]
    assert len(binding.call("ListTasks", {})["tasks"]) == 4, "without artifacts they take no room"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        *[({"pageSize": value}, "pageSize") for value in each(0, -1, 101, 2**31 - 1)],
        *[({"pageToken": value}, "pageToken") for value in each("x", "e30=", "MjAyNi0wMS0wMX54", "²")],
        ({"historyLength": -1}, "historyLength"),
        ({"contextId": "c" * 200}, "contextId"),
        ({"contextId": "a\x00"}, "contextId"),
    ],
)
def test_a_list_that_cannot_be_is_refused_by_the_field(
    binding: Binding, local: Factory, params: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused) as caught:
        binding.call("ListTasks", params)
    assert (caught.value.reason, caught.value.fields) == ("INVALID_PARAMS", {field})


@pytest.mark.parametrize("name", ["jsonrpc", "rest"])
@pytest.mark.parametrize(
    ("params", "field"),
    [
        *[({"status": value}, "status") for value in each("BOGUS", "completed", "COMPLETED", "task_state_working")],
        *[({"pageSize": value}, "pageSize") for value in each("x", "1.5", "")],
        *[({"includeArtifacts": value}, "includeArtifacts") for value in each("yes", "1", "")],
        *[({"statusTimestampAfter": value}, "statusTimestampAfter") for value in each("x", "2026-01-01", "")],
    ],
)
def test_what_protobuf_would_forgive_is_refused(
    doors: Doors, local: Factory, name: str, params: dict[str, Any], field: str
) -> None:
    """Section 6.5: an unknown state is an error, not every state."""
    with pytest.raises(Refused) as caught:
        BINDINGS[name](doors).call("ListTasks", params)
    assert caught.value.reason == "INVALID_PARAMS"
    assert field in caught.value.message


def explained(asked: listing.Query) -> Steps[str]:
    """How the page of a query is read."""
    steps = listing.tasks(asked)
    page = next(steps)
    assert isinstance(page, Statement)
    rows = yield Statement(f"EXPLAIN {page.sql}", page.params)
    return "\n".join(row[0] for row in rows)


def test_a_page_is_a_range_of_the_index_for_each_state(local: Factory) -> None:
    from a2a.types import ListTasksRequest

    asked = listing.query(ListTasksRequest(), client_id=local.owner.pk, agent="echo", history_length=0)
    plan = engine.run(explained, asked)
    assert "task_list_idx" in plan
    assert "Seq Scan on tasks_app_task" not in plan


def test_a_long_list_is_estimated_and_not_counted(
    binding: Binding, local: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(12):
        local.pending()
    monkeypatch.setattr(listing, "COUNTED_MAX", 5)
    assert binding.call("ListTasks", {"pageSize": 1})["totalSize"] >= 6
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_task")
    assert binding.call("ListTasks", {"pageSize": 1})["totalSize"] == 12
