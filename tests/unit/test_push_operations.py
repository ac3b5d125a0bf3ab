"""The four operations over webhooks as every binding calls them (A2A 1.0, sections 3.1.7 to 3.1.10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from a2a.types import AuthenticationInfo, TaskPushNotificationConfig

from tasks_app.a2a.errors import InvalidParamsError, TaskNotFoundError, violations
from tasks_app.database import Line
from tasks_app.models import Client
from tasks_app.push import operations
from tests.factory import Factory

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://8.8.8.8/hook"


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    yield made
    await made.close()


@pytest.fixture
def task_id(factory: Factory) -> UUID:
    return factory.pending()


def config(**fields: Any) -> TaskPushNotificationConfig:
    return TaskPushNotificationConfig(**{"url": URL, **fields})


async def test_a_config_is_made_read_listed_and_deleted(task_id: UUID, owner: Client, line: Line) -> None:
    scope: dict[str, Any] = {"client_id": owner.pk, "agent": "echo"}
    authentication = AuthenticationInfo(scheme="Bearer", credentials="s3cret")
    made = await operations.create(line.run, task_id, config(authentication=authentication, token="t"), **scope)
    assert (made.url, made.task_id, made.authentication.scheme) == (URL, str(task_id), "Bearer")
    assert (made.authentication.credentials, made.token) == ("", "")
    assert await operations.get(line.run, task_id, made.id, **scope) == made
    assert list((await operations.listed(line.run, task_id, **scope)).configs) == [made]
    for _ in range(2):
        await operations.delete(line.run, task_id, made.id, **scope)
    assert list((await operations.listed(line.run, task_id, **scope)).configs) == []
    with pytest.raises(TaskNotFoundError, match="no push notification config"):
        await operations.get(line.run, task_id, made.id, **scope)


async def test_what_a_client_cannot_see_is_not_found(task_id: UUID, owner: Client, line: Line) -> None:
    for wrong in ((uuid4(), owner.pk, "echo"), (task_id, 0, "echo"), (task_id, owner.pk, "sleep")):
        of: UUID = wrong[0]
        scope: dict[str, Any] = {"client_id": wrong[1], "agent": wrong[2]}
        calls = [
            operations.create(line.run, of, config(), **scope),
            operations.get(line.run, of, "x", **scope),
            operations.listed(line.run, of, **scope),
            operations.delete(line.run, of, "x", **scope),
        ]
        for call in calls:
            with pytest.raises(TaskNotFoundError):
                await call


async def test_a_private_address_and_one_too_many_name_their_field(
    task_id: UUID, owner: Client, line: Line, settings: Any
) -> None:
    settings.A2A_PUSH_MAX_PER_TASK = 1
    scope: dict[str, Any] = {"client_id": owner.pk}
    await operations.create(line.run, task_id, config(id="a"), **scope)
    for asked, field in ((config(url="http://127.0.0.1/"), "url"), (config(id="b"), "id")):
        with pytest.raises(InvalidParamsError) as caught:
            await operations.create(line.run, task_id, asked, **scope)
        assert violations(caught.value)[0]["field"] == field


async def test_pages_lead_on_to_the_end(task_id: UUID, owner: Client, line: Line) -> None:
    scope: dict[str, Any] = {"client_id": owner.pk}
    for name in "abc":
        await operations.create(line.run, task_id, config(id=name), **scope)
    first = await operations.listed(line.run, task_id, page_size=2, **scope)
    rest = await operations.listed(line.run, task_id, page_size=2, page_token=first.next_page_token, **scope)
    assert [[each.id for each in page.configs] for page in (first, rest)] == [["a", "b"], ["c"]]
    assert rest.next_page_token == ""
    for wrong in ({"page_size": -1}, {"page_size": 101}, {"page_token": "?"}):
        with pytest.raises(InvalidParamsError):
            await operations.listed(line.run, task_id, **wrong, **scope)


@pytest.mark.parametrize("name", ["", "a\x00"])
async def test_an_id_that_is_none_is_refused(name: str, owner: Client, line: Line) -> None:
    for operation in (operations.get, operations.delete):
        with pytest.raises(InvalidParamsError, match="id"):
            await operation(line.run, uuid4(), name, client_id=owner.pk)
