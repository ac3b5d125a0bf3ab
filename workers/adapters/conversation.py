"""One turn of a task with a remote agent: the message goes there once, and what comes of it is relayed until its end.

What the remote accepted is not sent again: a checkpoint says that a message is about to be sent, before it is, and the
next attempt looks for it at the remote. Only where that cannot be found out is it sent again, under the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, cast

from a2a.client.client import Client
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    A2AError,
    MethodNotFoundError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from tasks_app.a2a import extension
from tasks_app.agents import AgentError
from tasks_app.engine import files
from workers.adapters import lookups
from workers.adapters.failures import is_passing, told
from workers.adapters.lookups import Fate
from workers.adapters.peer import SILENCE_S, peer_of
from workers.adapters.relay import INTERRUPTED, End, Relay, settle
from workers.adapters.remote import Remote
from workers.adapters.sent import Sent
from workers.adapters.stopping import done_within
from workers.context import Context, LeaseLost

log = logging.getLogger(__name__)

#: Between two looks at a task that tells nothing by itself: the first pause, by what it grows, and the longest.
PAUSE_S, PAUSE_GROWTH, PAUSE_MAX_S = 0.5, 1.5, 5.0
#: The longest that telling the remote to cancel may take.
CANCEL_S = 5.0
#: How many of a context's tasks are looked through for a message that may have been sent.
LOOKED_THROUGH = 100


async def run(ctx: Context, remote: Remote) -> Message | None:
    """One turn. Returns the last message of a task that completed; raises what a handler raises at any other end."""
    turn = _Turn(ctx, remote)
    try:
        with told(remote.url):
            return await turn.run()
    except (asyncio.CancelledError, LeaseLost):
        what = f"task {ctx.task_id}: the remote agent could not be told to cancel"
        await done_within(CANCEL_S, turn.stopped(), what=what)
        raise


class _Turn:
    """A turn under way."""

    def __init__(self, ctx: Context, remote: Remote) -> None:
        self._ctx = ctx
        self._peer = peer_of(remote)
        self._sent = Sent.of(ctx)
        self._relay = Relay(ctx)
        #: Whether what came first may have been missed.
        self._late = False
        self._asked_anew = False

    async def run(self) -> Message | None:
        said = {message.message_id for message in self._ctx.history}
        if self._sent.turn == self._ctx.turn:
            # Artifacts are taken whole again, so that what is added to them later is added to the whole.
            self._relay = Relay(self._ctx, said=said | await lookups.said_in_turn(self._ctx.task_id))
            await self._resume()
        else:
            if self._ctx.turn > 1:
                before = await lookups.before_turn(self._ctx.task_id, self._ctx.history)
                self._relay = Relay(self._ctx, said=said, artifacts=before.artifacts)
            await self._send()
        await self._follow()
        return self._ended()

    async def stopped(self) -> None:
        """Cancels at the remote what nobody will go on with."""
        fate = await lookups.fate(self._ctx.task_id, self._ctx.attempt)
        if fate is Fate.GOES_ON:
            return
        if not self._sent.task_id and self._sent.turn == self._ctx.turn:
            await self._find()
        if self._sent.task_id:
            with suppress(TaskNotCancelableError, TaskNotFoundError):  # it has ended meanwhile
                client = await self._peer.client()
                await client.cancel_task(CancelTaskRequest(id=self._sent.task_id), context=self._peer.call())
        if fate is Fate.TIMED_OUT:
            self._begin_anew()

    # Sending ---------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        client = await self._peer.client()
        self._note(self._sent.about_to(self._ctx))
        await self._ctx.saved()
        configuration = SendMessageConfiguration(accepted_output_modes=self._ctx.accepted_output_modes)
        request = SendMessageRequest(message=self._message(), configuration=configuration)
        request.metadata.update(self._ctx.metadata)
        try:
            await self._take_all(client.send_message(request, context=self._peer.call(timeout_s=SILENCE_S)))
        except UnsupportedOperationError:
            if self._ctx.turn == 1:
                raise
            log.info("task %s: its remote task has ended before it was answered", self._ctx.task_id)
        except A2AError as error:
            if not (self._sent.accepted and is_passing(error)):
                raise
            log.info("task %s: the stream from its remote agent broke: %s", self._ctx.task_id, error)

    def _message(self) -> Message:
        """The client's, as one of ours to the remote: its options are ours, but for those that the remote knows."""
        message = files.as_said(self._ctx.message)
        message.message_id, message.context_id = self._sent.message_id(self._ctx), self._sent.context(self._ctx)
        message.task_id = self._sent.task_id
        del message.reference_task_ids[:]
        options = message.metadata.fields.pop(extension.URI, None)
        if self._peer.is_ours and self._ctx.turn == 1 and (options is not None or self._ctx.parameters):
            message.metadata.update({extension.URI: {"parameters": self._ctx.parameters}})
        return message

    # Going on with what was sent -------------------------------------------------------------------------------------

    async def _resume(self) -> None:
        """After an attempt that may have sent the message."""
        self._late = True
        if not self._sent.accepted:
            await self._find()
        if not self._sent.accepted:
            await self._send()

    async def _find(self) -> None:
        """Looks whether the remote has the message, and for the task that came of it."""
        client = await self._peer.client()
        try:
            tasks = await self._candidates(client)
        except (A2AError, NotImplementedError) as error:
            if isinstance(error, A2AError) and is_passing(error):
                raise
            log.info("task %s: its remote agent does not tell what was sent: %s", self._ctx.task_id, error)
            return
        for task in tasks:
            if self._has_come_to(task):
                self._adopt(task.id, task.context_id)

    async def _candidates(self, client: Client) -> list[Task]:
        """The tasks that the message may have come to, with their histories."""
        call = self._peer.call()
        if self._sent.task_id:
            return [await client.get_task(GetTaskRequest(id=self._sent.task_id), context=call)]
        asked = ListTasksRequest(
            context_id=self._sent.context(self._ctx), page_size=LOOKED_THROUGH, history_length=LOOKED_THROUGH
        )
        return list((await client.list_tasks(asked, context=call)).tasks)

    async def _follow(self) -> None:
        """Until the turn's end: by subscribing where the remote streams, else by looking again and again."""
        pause_s = PAUSE_S
        while self._relay.end is None:
            try:
                await self._look()
            except TaskNotFoundError:
                if self._ctx.turn > 1 or self._asked_anew:
                    raise
                await self._ask_anew()
            if self._relay.end is None:
                await asyncio.sleep(pause_s)
                self._ctx.heartbeat()
                pause_s = min(pause_s * PAUSE_GROWTH, PAUSE_MAX_S)
        if self._late and self._sent.task_id:
            # Who subscribes late may be told of a piece twice: the remote's task says what is right.
            self._relay.contents(await self._task(await self._peer.client()))

    async def _look(self) -> None:
        client = await self._peer.client()
        self._take_task(await self._task(client))
        if self._relay.end is None and self._peer.streams:
            self._late = True
            await self._subscribe(client)

    async def _subscribe(self, client: Client) -> None:
        asked = SubscribeToTaskRequest(id=self._sent.task_id)
        try:
            await self._take_all(client.subscribe(asked, context=self._peer.call(timeout_s=SILENCE_S)))
        except (UnsupportedOperationError, MethodNotFoundError):
            return  # it has ended meanwhile, or cannot be subscribed to
        except A2AError as error:
            if not is_passing(error):
                raise
            log.info("task %s: the stream from its remote agent broke: %s", self._ctx.task_id, error)

    async def _task(self, client: Client) -> Task:
        return await client.get_task(GetTaskRequest(id=self._sent.task_id), context=self._peer.call())

    async def _ask_anew(self) -> None:
        """The remote knows the task no more: once in an attempt, and only if there was but one message to lose."""
        log.warning("task %s: its remote agent has lost it, and is asked anew", self._ctx.task_id)
        self._asked_anew = True
        self._begin_anew()
        await self._send()

    # What comes back -------------------------------------------------------------------------------------------------

    async def _take_all(self, responses: AsyncIterator[StreamResponse]) -> None:
        """Relays a stream, or the one answer, up to the end of the turn."""
        async with aclosing(cast(Any, responses)) as events:
            async for response in events:
                self._take(response)
                if self._relay.end is not None:
                    break

    def _take(self, response: StreamResponse) -> None:
        kind = response.WhichOneof("payload")
        if kind == "task":
            self._take_task(response.task)
        elif kind == "message":
            self._relay.end = End(TaskState.TASK_STATE_COMPLETED, response.message)
        elif kind == "status_update":
            self._adopt(response.status_update.task_id, response.status_update.context_id)
            self._relay.status(response.status_update)
        elif kind == "artifact_update":
            self._adopt(response.artifact_update.task_id, response.artifact_update.context_id)
            self._relay.artifact(response.artifact_update)

    def _take_task(self, task: Task) -> None:
        self._adopt(task.id, task.context_id)
        if task.status.state in INTERRUPTED and task.history and not self._has_come_to(task):
            self._relay.contents(task)  # it still asks what our message answers
        else:
            self._relay.task(task)

    def _has_come_to(self, task: Task) -> bool:
        """Whether our message is part of the task."""
        message_id = self._sent.message_id(self._ctx)
        return any(message.message_id == message_id for message in task.history)

    def _adopt(self, task_id: str, context_id: str) -> None:
        known = self._sent.known_as(self._ctx, task_id, context_id)
        if known != self._sent:
            self._note(known)

    def _note(self, sent: Sent) -> None:
        self._sent = sent
        sent.note(self._ctx)

    def _begin_anew(self) -> None:
        """What an attempt after this sends is another message of another task. A later turn cannot: it had a task."""
        if self._ctx.turn == 1:
            self._note(Sent(round=self._sent.round + 1))

    def _ended(self) -> Message | None:
        end = self._relay.end
        assert end is not None  # noqa: S101 (narrows the type)
        if end.state == TaskState.TASK_STATE_FAILED:
            self._begin_anew()
            raise AgentError(end.message or "the remote agent failed, and did not say why", code="remote_failed")
        if end.state == TaskState.TASK_STATE_CANCELED:
            self._begin_anew()
            raise AgentError(end.message or "the remote agent's task was cancelled there", code="remote_canceled")
        return settle(end)
