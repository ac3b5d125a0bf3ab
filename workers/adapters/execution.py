"""Runs an a2a-sdk ``AgentExecutor``: its request made anew from the task, its events put on record one by one.

Where the SDK's own server (``a2a.server.agent_execution.active_task``) decides something, it is decided as there.
"""

from __future__ import annotations

import asyncio
import logging
import uuid

from a2a.auth.user import User
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events.event_queue import Event, EventQueue
from a2a.types import (
    Message,
    SendMessageConfiguration,
    SendMessageRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)
from a2a.utils.errors import A2A_ERROR_REASONS, A2AError, InternalError, InvalidAgentResponseError
from django.conf import settings

from tasks_app.agents import AgentError, Cancelled
from tasks_app.engine import files
from workers.adapters import lookups
from workers.adapters.relay import End, Relay, settle
from workers.adapters.stopping import done_within, stopped
from workers.context import Context

log = logging.getLogger(__name__)

#: How often it is looked whether a run in the cpu lane was told to stop; in the io lane its coroutine is cancelled.
LOOK_S = 0.2
#: What waits for its client while ``execute`` goes on is shown to it after so long.
SHOWN_AFTER_S = 1.0


async def run(ctx: Context, executor: AgentExecutor, *, watched: bool) -> Message | None:
    """One turn. Returns the last message of a task that completed; raises what a handler raises at any other end."""
    request = await _request(ctx)
    queue = Outlet(ctx, request.current_task)
    work = asyncio.ensure_future(executor.execute(request, queue))
    try:
        while not work.done() and not (watched and ctx.told_to_stop):
            await asyncio.wait([work], timeout=LOOK_S if watched else None)
    except asyncio.CancelledError:
        await _stop(executor, request, queue, work)
        raise
    if not work.done():
        await _stop(executor, request, queue, work)
        ctx.check()
    return queue.outcome(work)


class Outlet(EventQueue):
    """What an executor is given for its events: each is recorded as it comes, fenced by the attempt's lease."""

    def __init__(self, ctx: Context, before: Task | None) -> None:
        self._ctx = ctx
        self._stable = _StableIds(ctx, before)
        self._relay = Relay(ctx, artifacts=before.artifacts if before else (), named=self._stable.name)
        self._is_task = before is not None
        self._closed = False
        self._shown: asyncio.TimerHandle | None = None

    async def enqueue_event(self, event: Event) -> None:
        """Raises LeaseLost when to stop, InvalidAgentResponseError for what the SDK's server refuses."""
        if self._closed:
            return
        if self._relay.has_ended:
            log.info("task %s has ended: a %s after that is ignored", self._ctx.task_id, type(event).__name__)
            return
        if isinstance(event, Message):
            self._reply(event)
        else:
            self._check_ids(event)
            self._is_task = True
            self._put(event)
        await asyncio.sleep(0)  # an executor that never waits would keep the loop from writing

    def close(self) -> None:
        """From now on nothing is recorded: the attempt has been told to stop."""
        self._closed = True
        self._hide()

    def outcome(self, work: asyncio.Future[None]) -> Message | None:
        """What comes of the run that has ended; see :func:`run`."""
        self._hide()
        end, error = self._relay.end, _error_of(work)
        if error is not None and not self._relay.has_ended:
            raise error
        if error is not None:
            log.warning("task %s: its executor failed after its end", self._ctx.task_id, exc_info=error)
        if end is None:
            log.info("task %s: its executor returned without an end, which is taken for completed", self._ctx.task_id)
            return None
        if end.state == TaskState.TASK_STATE_FAILED:
            raise AgentError(end.message or "the agent failed, and did not say why", code="agent_failed")
        if end.state == TaskState.TASK_STATE_CANCELED:
            raise Cancelled(end.message or "the agent gave the task up")
        return settle(end)

    def _put(self, event: Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent) -> None:
        self._hide()
        if isinstance(event, Task):
            self._relay.task(event)
        elif isinstance(event, TaskStatusUpdateEvent):
            self._relay.status(event)
        else:
            self._relay.artifact(event)
        if self._relay.end is not None and not self._relay.has_ended:
            loop = asyncio.get_running_loop()
            self._shown = loop.call_later(SHOWN_AFTER_S, self._relay.show_end)

    def _reply(self, message: Message) -> None:
        if self._is_task:
            raise InvalidAgentResponseError("a Message after events of a task: put it into a status of the task")
        self._ctx.check()
        self._relay.end = End(TaskState.TASK_STATE_COMPLETED, message)

    def _check_ids(self, event: Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent) -> None:
        task_id = event.id if isinstance(event, Task) else event.task_id
        if task_id != str(self._ctx.task_id):
            raise InvalidAgentResponseError(f"an event of the task '{task_id}', which is another one")

    def _hide(self) -> None:
        if self._shown is not None:
            self._shown.cancel()


class _StableIds:
    """Names for artifacts whose ids are drawn at random: the same in each attempt of a turn, which then replace them.

    Random is what looks like a UUID, which ``TaskUpdater.add_artifact`` draws where it is given no id.
    """

    def __init__(self, ctx: Context, before: Task | None) -> None:
        self._key = ctx.idempotency_key
        known = before.artifacts if before else ()
        self._names: dict[str, str] = {artifact.artifact_id: artifact.artifact_id for artifact in known}
        self._drawn = 0

    def name(self, artifact_id: str) -> str:
        if artifact_id not in self._names:
            self._names[artifact_id] = self._next() if _is_uuid(artifact_id) else artifact_id
        return self._names[artifact_id]

    def _next(self) -> str:
        self._drawn += 1
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"a2a-task-manager:{self._key}:{self._drawn}"))


class _Named(User):
    """The client that the task belongs to."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def user_name(self) -> str:
        return self._name


async def _request(ctx: Context) -> RequestContext:
    """What the SDK's server would give the executor. A task that is new has, as there, no current task."""
    task_id, message = str(ctx.task_id), files.as_said(ctx.message)
    references = list(message.reference_task_ids)
    configuration = SendMessageConfiguration(accepted_output_modes=ctx.accepted_output_modes)
    request = SendMessageRequest(message=message, configuration=configuration)
    request.metadata.update(ctx.metadata)
    return RequestContext(
        ServerCallContext(user=_Named(ctx.client)),
        request,
        task_id=task_id,
        context_id=ctx.context_id,
        task=await lookups.before_turn(ctx.task_id, ctx.history) if ctx.turn > 1 else None,
        related_tasks=await lookups.related(ctx.task_id, references) if references else [],
    )


async def _stop(executor: AgentExecutor, request: RequestContext, queue: Outlet, work: asyncio.Future[None]) -> None:
    """As the SDK's server does it: the executor's own ``cancel``, for a while, and then its coroutine is cancelled."""
    queue.close()
    what = f"task {request.task_id}: its executor could not cancel"
    await done_within(settings.A2A_STOP_GRACE_S / 2, executor.cancel(request, queue), what=what)
    await stopped(work)


def _error_of(work: asyncio.Future[None]) -> BaseException | None:
    """What it raised, as a handler raises it: an A2A error, but an internal one, is meant for the client."""
    if work.cancelled():
        return RuntimeError("the executor cancelled itself")
    error = work.exception()
    if isinstance(error, A2AError) and not isinstance(error, InternalError):
        made = AgentError(str(error), code=A2A_ERROR_REASONS.get(type(error), "AGENT_ERROR").lower())
        made.__cause__ = error
        return made
    return error


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
