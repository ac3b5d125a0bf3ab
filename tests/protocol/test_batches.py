"""``/api/v1/batches/``: all tasks or none, or those that are right; and what becomes of them together."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from tasks_app import batch_items, batches, engine, wakeups
from tasks_app.database import conninfo
from tasks_app.engine import Finish
from tasks_app.models import ApiKey, Batch, Client, Outcome, PushConfig, Task, TaskDependency
from tasks_app.push.sealing import unseal
from tasks_app.status import Lane, Priority, TaskStatus
from tests.factory import Factory, admit, completed
from tests.protocol.doors import EXTENSION, Doors, content, nothing_left
from tests.protocol.test_limits import limited, refused

BATCHES = "/api/v1/batches/"
FAILED = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error={"code": "x", "message": "y"})


def item(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"agent": "echo", "message": {"parts": [{"text": text}]}, **fields}


def submit(doors: Doors, body: Any, **headers: str) -> httpx.Response:
    return doors.send("POST", BATCHES, **content(body, **headers))


def lines(*rows: Any) -> dict[str, Any]:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    return {"content": text.encode(), "headers": {"content-type": "application/x-ndjson"}}


def act(doors: Doors, batch_id: str, verb: str) -> httpx.Response:
    return doors.send("POST", f"{BATCHES}{batch_id}/{verb}/")


def wrong(reply: httpx.Response) -> list[str]:
    """The fields that an error names."""
    assert reply.status_code == 400, reply.text
    return [each["field"] for each in reply.json()["errors"]]


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the doors ring."""
    heard: list[Any] = []
    monkeypatch.setattr(wakeups.bell, "ring", heard.extend)
    return heard


# Submit --------------------------------------------------------------------------------------------------------------


def test_a_batch_is_stored_with_its_tasks_and_rung_for(doors: Doors, rung: list[Any]) -> None:
    body = {
        "name": "scans",
        "metadata": {"ward": 3},
        "defaults": {"agent": "echo", "priority": "low"},
        "tasks": [{"message": {"parts": [{"text": "a"}]}}, item("b", priority="critical", parameters={})],
    }
    reply = submit(doors, body)
    made = reply.json()
    assert (reply.status_code, reply.headers["location"]) == (201, f"{BATCHES}{made['id']}/")
    assert {name: made[name] for name in ("name", "size", "refused", "progress", "metadata", "completed_at")} == {
        "name": "scans",
        "size": 2,
        "refused": [],
        "progress": 0.0,
        "metadata": {"ward": 3},
        "completed_at": None,
    }
    assert made["counts"] == {**dict.fromkeys(TaskStatus.values, 0), "pending": 2}
    first, second = Task.objects.order_by("batch_index").select_related("request")
    assert (first.batch_index, first.priority, first.messages[0].parts[0].text) == (0, Priority.LOW, "a")
    assert (second.batch_index, second.priority, second.messages[0].parts[0].text) == (1, Priority.CRITICAL, "b")
    assert str(first.batch_id) == made["id"]
    assert (first.method, first.messages[0].message_id != second.messages[0].message_id) == ("batches.create", True)
    heard = [text for channel, text in rung if channel == wakeups.DISPATCH]
    assert [text.split(":")[:2] for text in heard] == [["new", "0"], ["new", "3"]]


def test_lines_are_a_batch_as_well(doors: Doors) -> None:
    head = {"batch": {"name": "n", "defaults": {"agent": "echo"}}}
    reply = doors.send("POST", BATCHES, **lines(head, "", item("a"), {"message": {"parts": [{"text": "b"}]}}, ""))
    assert (reply.status_code, reply.json()["size"], reply.json()["name"]) == (201, 2, "n")
    assert doors.send("POST", BATCHES, **lines(item("a"))).json()["size"] == 1
    spaced = '{ "batch": {"name": "n"} }'
    assert doors.send("POST", BATCHES, **lines(spaced, item("a"))).json()["name"] == "n"


def test_many_are_stored_in_their_order(doors: Doors) -> None:
    count = 2 * batch_items.CHUNK + 1
    made = submit(doors, {"tasks": [item(str(number)) for number in range(count)]}).json()
    assert (made["size"], made["counts"]["pending"]) == (count, count)
    tasks = Task.objects.order_by("batch_index").select_related("request")
    assert [task.messages[0].parts[0].text for task in tasks] == [str(number) for number in range(count)]
    assert [task.id for task in tasks] == sorted(task.id for task in tasks)


def test_one_wrong_task_and_none_is_accepted(doors: Doors) -> None:
    tasks: list[Any] = [item(str(number)) for number in range(batch_items.CHUNK + 5)]
    tasks[3] = item(agent="nobody")
    tasks[-1] = {"agent": "echo"}
    tasks[7] = "text"
    with nothing_left():
        reply = submit(doors, {"tasks": tasks})
    last = batch_items.CHUNK + 4
    assert wrong(reply) == ["tasks[3].agent", "tasks[7]", f"tasks[{last}].message"]
    said = f"3 of {batch_items.CHUNK + 5} tasks are wrong, and none was accepted; tasks[3].agent: "
    assert said in reply.json()["detail"]
    assert not Batch.objects.exists()


def test_or_those_that_are_right_are(doors: Doors) -> None:
    tasks = [item("a"), item(priority="huge"), "{", item("b")]
    reply = doors.send("POST", BATCHES, **lines({"batch": {"atomic": False}}, *tasks))
    made = reply.json()
    assert (reply.status_code, made["size"], made["counts"]["pending"]) == (201, 4, 2)
    assert [(each["index"], each["field"]) for each in made["refused"]] == [(1, "priority"), (2, "")]
    assert made["refused"][1]["message"].startswith("is not JSON: ")
    assert list(Task.objects.order_by("id").values_list("batch_index", flat=True)) == [0, 3]
    assert doors.send("GET", f"{BATCHES}{made['id']}/").json() == made


def test_of_many_wrong_tasks_the_first_are_told_of(doors: Doors) -> None:
    with nothing_left():
        reply = submit(doors, {"atomic": False, "tasks": [{}] * (batch_items.TOLD_MAX + 1)})
    assert len(wrong(reply)) == batch_items.TOLD_MAX
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "tasks"),
        ({"tasks": []}, "tasks"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": [item()] * (batches.SIZE_MAX + 1)}, "tasks"),
        ({"tasks": [item()], "task": 1}, "task"),
        ({"tasks": [item()], "atomic": 1}, "atomic"),
        ({"tasks": [item()], "name": 1}, "name"),
        ({"tasks": [item()], "name": "x" * 257}, "name"),
        ({"tasks": [item()], "name": "a\x00"}, "name"),
        ({"tasks": [item()], "metadata": []}, "metadata"),
        ({"tasks": [item()], "metadata": {"a": "\x00"}}, "metadata"),
        ({"tasks": [item()], "defaults": 1}, "defaults"),
        ({"tasks": [item()], "defaults": {"nonsense": 1}}, "tasks[0].nonsense"),
        ({"tasks": [item(metadata={"a": "\x00"})]}, "tasks[0].metadata"),
        (
            {"tasks": [item("a\x00", message={"messageId": "a\x00", "parts": [{"text": ""}]})]},
            "tasks[0].message.messageId",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left(doors: Doors, body: Any, field: str) -> None:
    with nothing_left():
        assert wrong(submit(doors, body)) == [field]
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    "row", ['{"batch"', '{"batch": 1}', '{"batch": {"tasks": []}}', '{"batch": {}, "agent": "echo"}']
)
def test_a_first_line_that_is_wrong_is_refused(doors: Doors, row: str) -> None:
    with nothing_left():
        reply = doors.send("POST", BATCHES, **lines(row, item()))
    assert reply.status_code == 400
    assert "the first line" in reply.json()["detail"]


def test_deep_lines_and_other_media_types_are_refused(doors: Doors) -> None:
    deep = '{"agent":' + "[" * 40 + "]" * 40 + "}"
    assert wrong(doors.send("POST", BATCHES, **lines(deep))) == ["tasks[0]"]
    reply = doors.send("POST", BATCHES, content=b"a,b", headers={"content-type": "text/csv"})
    assert reply.status_code == 415


def test_a_message_id_stands_for_one_task_in_a_batch_too(doors: Doors, local: Factory) -> None:
    def named(name: str, text: str = "x") -> dict[str, Any]:
        return item(message={"messageId": name, "parts": [{"text": text}]})

    assert doors.submit(named("old")).status_code == 201
    body = {"tasks": [named("old"), named("old", "other"), named("new"), named("new")]}
    fields = [f"tasks[{index}].message.messageId" for index in (0, 1, 3)]
    assert wrong(submit(doors, body)) == fields
    assert Task.objects.count() == 1
    made = submit(doors, {**body, "atomic": False}).json()
    assert [each["index"] for each in made["refused"]] == [0, 1, 3]
    assert Task.objects.count() == 2


@pytest.mark.parametrize(
    "bad",
    [{"x\x00": 1}, item(agent="a\x00b"), item(skill="a\x00"), item(priority="\x00"), item(resources={"a\x00": 1})],
)
def test_what_is_told_of_a_wrong_item_can_be_stored(doors: Doors, bad: dict[str, Any]) -> None:
    reply = submit(doors, {"atomic": False, "tasks": [item(), bad]})
    assert (reply.status_code, reply.json()["refused"][0]["index"]) == (201, 1)


def test_who_waits_at_a_limit_holds_up_nobody_without_one(doors: Doors, local: Factory) -> None:
    client, key = limited(max_queued=5)

    async def ask(http: httpx.AsyncClient) -> tuple[bool, list[int]]:
        def send(text: str, **headers: str) -> Any:
            message = {"messageId": text, "role": "ROLE_USER", "parts": [{"text": text}]}
            params = {"message": message, "configuration": {"returnImmediately": True}}
            call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
            return http.post("/a2a/echo/", json=call, headers={"A2A-Version": "1.0", **headers})

        async with await psycopg.AsyncConnection.connect(**conninfo()) as other:
            await other.execute("SELECT 1 FROM tasks_app_client WHERE id = %s FOR UPDATE", [client.pk])
            held = asyncio.create_task(send("held", **{"x-api-key": key}))
            free = await asyncio.wait_for(send("free"), 20)
            waits = not held.done()
        return waits, [free.status_code, (await held).status_code]

    assert doors.ask(ask) == (True, [200, 200])


# One after another ---------------------------------------------------------------------------------------------------


def needs(text: str, *places: Any) -> dict[str, Any]:
    return item(text, depends_on=list(places))


def test_a_task_needs_those_before_it_and_others_of_its_client(doors: Doors, local: Factory) -> None:
    other = local.pending()
    made = submit(doors, {"tasks": [item("a"), needs("b", 0), needs("c", 0, 1, str(other), 1)]}).json()
    first, second, third = Task.objects.filter(batch=made["id"]).order_by("batch_index")
    assert [task.deps_left for task in (first, second, third)] == [0, 1, 3]
    assert set(TaskDependency.objects.values_list("task_id", "needs_id")) == {
        (second.id, first.id),
        (third.id, first.id),
        (third.id, second.id),
        (third.id, other),
    }
    assert list(third.messages[0].reference_task_ids) == [str(first.id), str(second.id), str(other)]
    assert {hint.task_id for hint in admit({Lane.IO: 10})} == {first.id, other}
    shown = doors.send("GET", f"/api/v1/tasks/{third.id}/").json()
    assert shown["depends_on"] == sorted(map(str, (first.id, second.id, other)))
    assert shown["waiting_for"][0] == {
        "code": "dependencies",
        "message": "3 tasks it needs have not completed: see depends_on",
    }


@pytest.mark.parametrize(
    ("places", "field"),
    [
        ([1], "tasks[1].depends_on[0]"),
        ([0, 2], "tasks[1].depends_on[1]"),
        ([-1], "tasks[1].depends_on[0]"),
        ([True], "tasks[1].depends_on[0]"),
        (["x"], "tasks[1].depends_on[0]"),
        ([0, str(uuid4())], "tasks[1].depends_on[1]"),
        (0, "tasks[1].depends_on"),
        ([0] * 101, "tasks[1].depends_on"),
    ],
)
def test_what_it_cannot_need_is_refused_so_that_there_are_no_circles(doors: Doors, places: Any, field: str) -> None:
    with nothing_left():
        assert wrong(submit(doors, {"tasks": [item("a"), item("b", depends_on=places), item("c")]})) == [field]


def test_another_clients_task_cannot_be_needed(doors: Doors) -> None:
    theirs = Factory(Client.objects.create(name="other")).pending()
    assert wrong(submit(doors, {"tasks": [needs("a", str(theirs))]})) == ["tasks[0].depends_on[0]"]
    assert wrong(doors.submit(item(depends_on=[str(theirs)]))) == ["depends_on[0]"]
    options = {EXTENSION: {"depends_on": [str(theirs)]}}
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}], "metadata": options}
    error = doors.call("SendMessage", {"message": message})["error"]
    assert error["message"] == f"message.metadata.{EXTENSION}.depends_on[0]: there is no such task"


@pytest.mark.parametrize("bad", [item(priority="huge"), item(message={"messageId": "old", "parts": [{"text": "x"}]})])
def test_what_needs_a_refused_task_is_refused_with_it(doors: Doors, bad: dict[str, Any]) -> None:
    assert doors.submit(item(message={"messageId": "old", "parts": [{"text": "x"}]})).status_code == 201
    tasks = [bad, needs("b", 0), needs("c", 1), item("d"), needs("e", 3)]
    made = submit(doors, {"atomic": False, "tasks": tasks}).json()
    refused_of = [(each["index"], each["field"]) for each in made["refused"]]
    assert refused_of[1:] == [(1, "depends_on[0]"), (2, "depends_on[0]")]
    stored = Task.objects.filter(batch=made["id"]).order_by("batch_index").values_list("batch_index", "deps_left")
    assert list(stored) == [(3, 0), (4, 1)]


def test_a_rerun_is_given_the_rerun_of_what_it_needs_to_read(doors: Doors, local: Factory) -> None:
    batch_id = submit(doors, {"tasks": [item("a"), needs("b", 0)]}).json()["id"]
    (hint,) = admit({Lane.IO: 10})
    local.write(local.claim(hint.task_id), finish=FAILED)
    engine.run(engine.resolve)
    assert act(doors, batch_id, "rerun").json()["counts"]["pending"] == 2
    first, second = Task.objects.filter(batch=batch_id, batch_index__isnull=False).order_by("batch_index")
    assert list(second.messages[0].reference_task_ids) == [str(first.id)]


# The same request again ----------------------------------------------------------------------------------------------


def test_the_same_request_under_a_key_is_the_same_batch(doors: Doors) -> None:
    body = {"tasks": [item("a"), item("b")]}
    key = {"idempotency-key": "k"}
    first, again = submit(doors, body, **key), submit(doors, body, **key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    with nothing_left():
        assert wrong(submit(doors, {"tasks": [item("a")]}, **key)) == ["Idempotency-Key"]
        assert wrong(submit(doors, body, **{"idempotency-key": "x" * 257})) == ["Idempotency-Key"]
    assert submit(doors, body).status_code == submit(doors, body).status_code == 201
    assert (Batch.objects.count(), Task.objects.count()) == (3, 6)


def test_what_was_refused_whole_leaves_its_key_free(doors: Doors) -> None:
    key = {"idempotency-key": "k"}
    assert submit(doors, {"tasks": [{}]}, **key).status_code == 400
    assert submit(doors, {"tasks": [item()]}, **key).status_code == 201


def test_the_same_request_many_times_at_once_is_one_batch(doors: Doors) -> None:
    body = content(
        {"tasks": [item(message={"messageId": "m", "parts": [{"text": "x"}]}), item()]}, **{"idempotency-key": "k"}
    )
    replies = doors.together([("POST", BATCHES, body)] * 4)
    assert sorted(reply.status_code for reply in replies) == [200, 200, 200, 201]
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert (Batch.objects.count(), Task.objects.count()) == (1, 2)


# Limits --------------------------------------------------------------------------------------------------------------


def test_a_batch_is_refused_whole_or_filled_up_at_the_limit_of_what_may_wait(doors: Doors) -> None:
    _, key = limited(max_queued=2)
    body = {"tasks": [item("a"), item("b"), item("c")]}
    with nothing_left():
        refused(submit(doors, body, **{"x-api-key": key}), "max_queued")
    made = submit(doors, {**body, "atomic": False}, **{"x-api-key": key}).json()
    assert [(each["index"], each["field"]) for each in made["refused"]] == [(2, "max_queued")]
    assert made["counts"]["pending"] == 2
    with nothing_left():
        refused(submit(doors, {**body, "atomic": False}, **{"x-api-key": key}), "max_queued")


def test_every_task_counts_for_the_rate(doors: Doors) -> None:
    _, key = limited(submit_rate_per_s=0.05)  # three a minute
    head = {"x-api-key": key}
    assert submit(doors, {"tasks": [item()] * 2}, **head).status_code == 201
    with nothing_left():
        refused(submit(doors, {"tasks": [item()] * 2}, **head), "submit_rate_per_s")
    assert submit(doors, {"tasks": [item()]}, **head).status_code == 201


def test_more_than_a_window_holds_needs_one_of_its_own(doors: Doors) -> None:
    _, key = limited(submit_rate_per_s=0.05)
    head = {"x-api-key": key}
    assert submit(doors, {"tasks": [item()] * 7}, **head).status_code == 201
    with nothing_left():
        refused(submit(doors, {"tasks": [item()]}, **head), "submit_rate_per_s")


# Its webhook ---------------------------------------------------------------------------------------------------------


def test_a_callback_is_kept_sealed_and_shown_to_nobody(doors: Doors) -> None:
    callback = {
        "url": "https://8.8.8.8/x",
        "token": "t0ken",
        "authentication": {"scheme": "Bearer", "credentials": "c"},
    }
    reply = submit(doors, {"tasks": [item()], "callback": callback})
    assert reply.status_code == 201
    config = PushConfig.objects.get()
    assert (str(config.batch_id), config.task_id, config.url) == (reply.json()["id"], None, callback["url"])
    assert (config.state, config.delivered, config.scheme) == ("active", 0, "Bearer")
    assert unseal(bytes(config.token or b"")) == b"t0ken"
    assert "t0ken" not in reply.text


@pytest.mark.parametrize(
    ("callback", "field"),
    [
        (1, "callback"),
        ({}, "callback.url"),
        ({"url": "ftp://8.8.8.8/"}, "callback.url"),
        ({"url": "http://127.0.0.1/"}, "callback.url"),
        ({"url": "https://8.8.8.8/", "taskId": str(uuid4())}, "callback.taskId"),
        ({"url": "https://8.8.8.8/", "token": "a\nb"}, "callback.token"),
    ],
)
def test_a_callback_that_cannot_be_is_refused(doors: Doors, callback: Any, field: str) -> None:
    with nothing_left():
        assert wrong(submit(doors, {"tasks": [item()], "callback": callback})) == [field]
    assert not Batch.objects.exists()


# Look, cancel, run again ---------------------------------------------------------------------------------------------


def test_another_clients_batch_looks_like_none(doors: Doors) -> None:
    _, key = limited()
    batch_id = submit(doors, {"tasks": [item()]}, **{"x-api-key": key}).json()["id"]
    for unknown in (batch_id, str(uuid4()), "x"):
        for method, path in (("GET", ""), ("POST", "cancel/"), ("POST", "rerun/")):
            reply = doors.send(method, f"{BATCHES}{unknown}/{path}")
            assert (reply.status_code, reply.json()["detail"]) == (404, f"no batch '{unknown}'")
    assert doors.send("GET", BATCHES).json()["results"] == []
    assert doors.send("GET", f"/api/v1/tasks/?batch_id={batch_id}").json()["results"] == []
    assert Task.objects.get().status == "pending"


def test_batches_are_listed_newest_first_and_their_tasks_too(doors: Doors) -> None:
    made = [submit(doors, {"tasks": [item(), item()]}).json() for _ in range(3)]
    page = doors.send("GET", f"{BATCHES}?page_size=2").json()
    assert page["results"] == made[:0:-1]
    assert doors.send("GET", page["next"]).json()["results"] == made[:1]
    tasks = doors.send("GET", f"/api/v1/tasks/?batch_id={made[0]['id']}").json()["results"]
    assert [(task["batch_id"], task["batch_index"]) for task in tasks] == [(made[0]["id"], 1), (made[0]["id"], 0)]
    assert wrong(doors.send("GET", f"{BATCHES}?x=1")) == ["x"]
    assert wrong(doors.send("GET", "/api/v1/tasks/?batch_id=x")) == ["batch_id"]


def test_what_has_not_ended_is_cancelled(doors: Doors, local: Factory) -> None:
    batch_id = submit(doors, {"tasks": [item(), item(), item()]}).json()["id"]
    (hint,) = admit({Lane.IO: 1})
    local.write(local.claim(hint.task_id), finish=completed())
    reply = act(doors, batch_id, "cancel")
    assert (reply.status_code, reply.json()["progress"]) == (200, 1.0)
    assert {name: count for name, count in reply.json()["counts"].items() if count} == {"completed": 1, "cancelled": 2}
    assert act(doors, batch_id, "cancel").status_code == 409


def test_what_has_failed_is_run_again_and_nothing_else(doors: Doors, local: Factory) -> None:
    batch_id = submit(doors, {"tasks": [item("a"), item("b"), item("c")]}).json()["id"]
    hints = admit({Lane.IO: 3})
    ends = [completed(), FAILED, FAILED]
    for hint, end in zip(hints, ends, strict=True):
        local.write(local.claim(hint.task_id), finish=end)
    assert engine.run(engine.settle) == [UUID(batch_id)]
    done = doors.send("GET", f"{BATCHES}{batch_id}/").json()
    assert (done["progress"], done["counts"]["failed"], done["completed_at"] is None) == (1.0, 2, False)
    reply = act(doors, batch_id, "rerun")
    again = reply.json()
    assert (reply.status_code, again["completed_at"], again["size"]) == (200, None, 3)
    assert {name: count for name, count in again["counts"].items() if count} == {"completed": 1, "pending": 2}
    assert again["progress"] == pytest.approx(1 / 3)
    assert act(doors, batch_id, "rerun").status_code == 409
    listed = doors.send("GET", f"/api/v1/tasks/?batch_id={batch_id}").json()["results"]
    assert sorted(task["batch_index"] for task in listed) == [0, 1, 2]
    assert Task.objects.count() == 5


def test_a_rerun_beyond_a_limit_is_refused_whole(doors: Doors) -> None:
    client, key = limited(max_queued=2)
    head = {"x-api-key": key}
    batch_id = submit(doors, {"tasks": [item(), item()]}, **head).json()["id"]
    for hint in admit({Lane.IO: 2}):
        Factory(client).write(Factory(client).claim(hint.task_id), finish=FAILED)
    assert submit(doors, {"tasks": [item()]}, **head).status_code == 201
    refused(doors.send("POST", f"{BATCHES}{batch_id}/rerun/", headers=head), "max_queued")
    assert Task.objects.filter(rerun_of__isnull=False).count() == 0
    assert Task.objects.filter(batch=batch_id, batch_index__isnull=False, status="failed").count() == 2


def test_a_key_needs_the_scopes(doors: Doors) -> None:
    owner = Client.objects.create(name="owner")
    _, reads = ApiKey.issue(owner, scopes=["tasks:read"])
    _, writes = ApiKey.issue(owner, scopes=["tasks:write"])
    assert submit(doors, {"tasks": [item()]}, **{"x-api-key": reads}).status_code == 403
    assert submit(doors, {"tasks": [item()]}, **{"x-api-key": writes}).status_code == 201
    assert doors.send("GET", BATCHES, headers={"x-api-key": writes}).status_code == 403
    assert len(doors.send("GET", BATCHES, headers={"x-api-key": reads}).json()["results"]) == 1
