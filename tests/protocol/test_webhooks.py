"""Push notification configs over the three bindings (A2A 1.0, sections 3.1.7 to 3.1.10, 3.2.2 and 13.2)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tasks_app.models import InboxMessage, PushConfig
from tasks_app.status import TaskStatus
from tests.factory import Factory
from tests.protocol.bindings import Binding, Refused
from tests.protocol.doors import message, nothing_left

#: A public address: nothing is sent in these tests.
URL = "https://203.0.114.7/hook"
IMMEDIATELY = {"returnImmediately": True}


def create(binding: Binding, task_id: Any, **fields: Any) -> dict[str, Any]:
    config = {"taskId": str(task_id), "url": URL, **fields}
    return binding.call("CreateTaskPushNotificationConfig", config)


def refused(binding: Binding, method: str, params: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        binding.call(method, params)
    return caught.value


def test_a_webhook_is_made_read_listed_replaced_and_ended(binding: Binding, local: Factory) -> None:
    task_id = str(local.pending())
    secret = {"token": "t0ken", "authentication": {"scheme": "Bearer", "credentials": "s3cret"}}
    made = create(binding, task_id, id="one", **secret)
    assert (made["taskId"], made["id"], made["url"]) == (task_id, "one", URL)
    named = {"taskId": task_id, "id": "one"}
    assert binding.call("GetTaskPushNotificationConfig", named) == made
    assert "s3cret" not in str(made)
    assert "t0ken" not in str(made)
    assert create(binding, task_id, id="one", url=f"{URL}/other")["url"] == f"{URL}/other"
    other = create(binding, task_id)["id"]
    listed = binding.call("ListTaskPushNotificationConfigs", {"taskId": task_id})["configs"]
    assert {config["id"] for config in listed} == {"one", other}
    for _ in range(2):  # idempotent
        assert binding.call("DeleteTaskPushNotificationConfig", named) == {}
    assert refused(binding, "GetTaskPushNotificationConfig", named).reason == "TASK_NOT_FOUND"


def test_webhooks_are_listed_by_pages(binding: Binding, local: Factory) -> None:
    task_id = str(local.pending())
    for name in "abc":
        create(binding, task_id, id=name)
    page = binding.call("ListTaskPushNotificationConfigs", {"taskId": task_id, "pageSize": 2})
    assert [config["id"] for config in page["configs"]] == ["a", "b"]
    rest = {"taskId": task_id, "pageToken": page["nextPageToken"]}
    more = binding.call("ListTaskPushNotificationConfigs", rest)
    assert ([config["id"] for config in more["configs"]], more.get("nextPageToken", "")) == (["c"], "")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "http://127.0.0.1/hook"}, "url"),
        ({"url": "http://[::ffff:169.254.169.254]/"}, "url"),
        ({"authentication": {"scheme": ""}}, "authentication.scheme"),
        ({"token": "a\r\nb"}, "token"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_by_the_field(
    binding: Binding, local: Factory, fields: dict[str, Any], field: str
) -> None:
    config = {"taskId": str(local.pending()), "url": URL, **fields}
    error = refused(binding, "CreateTaskPushNotificationConfig", config)
    assert (error.reason, error.fields) == ("INVALID_PARAMS", {field})
    inline = {"taskPushNotificationConfig": {"url": URL, **fields}, **IMMEDIATELY}
    with nothing_left():
        error = refused(binding, "SendMessage", {"message": message(), "configuration": inline})
    assert error.fields == {f"configuration.taskPushNotificationConfig.{field}"}


def test_a_task_that_is_not_the_callers_has_no_webhooks(binding: Binding, local: Factory, factory: Factory) -> None:
    for task_id in (str(factory.pending()), str(uuid4()), "x"):
        named = {"taskId": task_id, "id": "one"}
        for method, params in (
            ("CreateTaskPushNotificationConfig", {"taskId": task_id, "url": URL}),
            ("GetTaskPushNotificationConfig", named),
            ("ListTaskPushNotificationConfigs", {"taskId": task_id}),
            ("DeleteTaskPushNotificationConfig", named),
        ):
            assert refused(binding, method, params).reason == "TASK_NOT_FOUND"


def test_a_message_may_bring_its_webhook(binding: Binding, local: Factory) -> None:
    """Section 3.3.4: before the first event, so that nothing is missed."""
    said = {"message": message(), "configuration": {"taskPushNotificationConfig": {"url": URL}, **IMMEDIATELY}}
    task_id = binding.call("SendMessage", said)["task"]["id"]
    assert binding.call("SendMessage", said)["task"]["id"] == task_id
    config = PushConfig.objects.get()
    assert (str(config.task_id), config.delivered) == (task_id, 0)


def test_an_answer_may_bring_a_webhook_which_gets_its_event(binding: Binding, local: Factory) -> None:
    task_id = local.in_state(TaskStatus.INPUT_REQUIRED)
    said = {
        "message": message(taskId=str(task_id)),
        "configuration": {"taskPushNotificationConfig": {"url": URL, "id": "one"}, **IMMEDIATELY},
    }
    generation = binding.call("SendMessage", said)["task"]["metadata"]["generation"]
    assert PushConfig.objects.get(task_id=task_id).delivered == generation - 1


def test_an_answer_that_is_refused_leaves_no_webhook(binding: Binding, local: Factory, settings: Any) -> None:
    settings.A2A_MAX_UNREAD = 1
    task_id = local.claimed().task_id
    first = message(taskId=str(task_id))
    binding.call("SendMessage", {"message": first, "configuration": IMMEDIATELY})
    webhook = {"taskPushNotificationConfig": {"url": URL}, **IMMEDIATELY}
    for said, reason in (
        (first | {"parts": [{"text": "otherwise"}]}, "INVALID_PARAMS"),
        (message(taskId=str(task_id)), "RESOURCE_EXHAUSTED"),
    ):
        assert refused(binding, "SendMessage", {"message": said, "configuration": webhook}).reason == reason
        assert not PushConfig.objects.exists()
    binding.call("SendMessage", {"message": first, "configuration": webhook})
    assert not PushConfig.objects.exists(), "it was there before, without one"


def test_an_answer_that_comes_again_with_its_webhook_has_one(binding: Binding, local: Factory, settings: Any) -> None:
    settings.A2A_PUSH_MAX_PER_TASK = 1
    task_id = local.in_state(TaskStatus.INPUT_REQUIRED)
    for fields in ({}, {"id": "one"}):
        PushConfig.objects.all().delete()
        webhook = {"taskPushNotificationConfig": {"url": URL, **fields}, **IMMEDIATELY}
        said = {"message": message(taskId=str(task_id)), "configuration": webhook}
        for _ in range(2):
            binding.call("SendMessage", said)
            assert PushConfig.objects.filter(task_id=task_id).count() == 1


def test_a_webhook_too_many_takes_its_message_along(binding: Binding, local: Factory, settings: Any) -> None:
    settings.A2A_PUSH_MAX_PER_TASK = 1
    task_id = local.in_state(TaskStatus.INPUT_REQUIRED)
    create(binding, task_id, id="a")
    webhook = {"taskPushNotificationConfig": {"url": URL, "id": "b"}, **IMMEDIATELY}
    error = refused(binding, "SendMessage", {"message": message(taskId=str(task_id)), "configuration": webhook})
    assert error.fields == {"configuration.taskPushNotificationConfig"}
    assert not InboxMessage.objects.exists()


def test_webhooks_of_a_task_are_a_few(binding: Binding, local: Factory, settings: Any) -> None:
    settings.A2A_PUSH_MAX_PER_TASK = 2
    task_id = local.pending()
    for name in "ab":
        create(binding, task_id, id=name)
    config = {"taskId": str(task_id), "url": URL, "id": "c"}
    assert refused(binding, "CreateTaskPushNotificationConfig", config).fields == {"id"}
    create(binding, task_id, id="a")
