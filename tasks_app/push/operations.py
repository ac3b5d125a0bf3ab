"""The A2A operations over push notification configs (A2A 1.0, sections 3.1.7 to 3.1.10), for every binding.

``run`` runs a verb on a connection: ``Web.read``, or ``Line.run``. The caller knows that the agent has push
notifications, and has read the task's id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from a2a.types import (
    ListTaskPushNotificationConfigsResponse,
    SendMessageConfiguration,
    TaskPushNotificationConfig,
)
from django.conf import settings

from tasks_app.a2a.errors import InvalidParamsError, TaskNotFoundError, invalid
from tasks_app.push import configs, wire
from tasks_app.push.guard import guard
from tasks_app.push.values import NewPush, Page, Push

#: Runs a verb with its arguments to its result.
Run = Callable[..., Awaitable[Any]]
PAGE_DEFAULT = 50
PAGE_MAX = 100


async def create(
    run: Run, task_id: UUID, config: TaskPushNotificationConfig, *, client_id: int, agent: str | None = None
) -> TaskPushNotificationConfig:
    """The config as it stands now; one of the same id is replaced. See :func:`configs.create`.

    Raises InvalidParamsError, also where the task has as many as it may, or TaskNotFoundError.
    """
    push = wire.asked(config)
    await wire.screen(push, guard())
    most = settings.A2A_PUSH_MAX_PER_TASK
    made: Push | configs.Full | None = await run(
        configs.create, task_id, push, client_id=client_id, agent=agent, most=most
    )
    if isinstance(made, configs.Full):
        raise full("id")
    if made is None:
        raise _no_task(task_id)
    return wire.shown(made)


async def inline(configuration: SendMessageConfiguration, *, path: str = "configuration") -> NewPush | None:
    """What ``NewTask.push`` is for this SendMessage (section 3.2.2), checked. Raises InvalidParamsError."""
    if not configuration.HasField("task_push_notification_config"):
        return None
    config, path = configuration.task_push_notification_config, f"{path}.taskPushNotificationConfig."
    if config.task_id:
        raise invalid(f"{path}taskId", "must be empty: the task is the one that this message makes")
    push = wire.asked(config, path=path)
    await wire.screen(push, guard(), path=path)
    return push


async def get(
    run: Run, task_id: UUID, config_id: str, *, client_id: int, agent: str | None = None
) -> TaskPushNotificationConfig:
    """The config. Raises TaskNotFoundError where there is none (section 3.1.8), InvalidParamsError without an id."""
    found: Push | None = await run(configs.get, task_id, _named(config_id), client_id=client_id, agent=agent)
    if found is None:
        raise TaskNotFoundError(f"no push notification config '{config_id[:100]}' of a task '{task_id}'")
    return wire.shown(found)


async def listed(
    run: Run,
    task_id: UUID,
    *,
    page_size: int = 0,
    page_token: str = "",
    client_id: int,
    agent: str | None = None,
) -> ListTaskPushNotificationConfigsResponse:
    """The task's configs in order of their ids; 0 is 50 on a page. Raises InvalidParamsError, TaskNotFoundError."""
    if not 0 <= page_size <= PAGE_MAX:
        raise invalid("pageSize", f"must be from 1 to {PAGE_MAX}")
    after = wire.after(page_token)
    page: Page | None = await run(
        configs.listed, task_id, client_id=client_id, agent=agent, after=after, limit=page_size or PAGE_DEFAULT
    )
    if page is None:
        raise _no_task(task_id)
    token = wire.page_token(page.next)
    return ListTaskPushNotificationConfigsResponse(configs=map(wire.shown, page.configs), next_page_token=token)


async def delete(run: Run, task_id: UUID, config_id: str, *, client_id: int, agent: str | None = None) -> None:
    """Ends the config, which may be gone already (section 3.1.10). Raises TaskNotFoundError, InvalidParamsError."""
    if not await run(configs.delete, task_id, _named(config_id), client_id=client_id, agent=agent):
        raise _no_task(task_id)


def full(path: str) -> InvalidParamsError:
    """For a config, at this path of the request, of a task that has as many as it may."""
    most = settings.A2A_PUSH_MAX_PER_TASK
    return invalid(path, f"the task has {most} push notification configs, as many as it may; delete or replace one")


def _named(config_id: str) -> str:
    if not config_id:
        raise invalid("id", "is required")
    if "\x00" in config_id:
        raise invalid("id", "may not hold NUL characters")
    return config_id


def _no_task(task_id: UUID) -> TaskNotFoundError:
    return TaskNotFoundError(f"no task '{task_id}'")
