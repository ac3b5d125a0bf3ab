"""Executors as authors write them for the a2a-sdk's own server: nothing here knows of this product."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from a2a.helpers import new_task_from_user_message, new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.types import (
    Artifact,
    Message,
    Part,
    Role,
    Task,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from a2a.utils.errors import InternalError, InvalidParamsError


class HelloWorld(AgentExecutor):
    """The SDK's first sample: one message, and no task."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        await event_queue.enqueue_event(new_text_message("Hello World", role=Role.ROLE_AGENT))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise Exception("cancel not supported")


def updater(context: RequestContext, queue: EventQueue) -> TaskUpdater:
    assert context.task_id is not None
    assert context.context_id is not None
    return TaskUpdater(queue, context.task_id, context.context_id)


class Updating(AgentExecutor):
    """Does what the text asks for, with the SDK's ``TaskUpdater``."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        await getattr(self, f"_{context.get_user_input()}")(context, event_queue, updater(context, event_queue))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await updater(context, event_queue).cancel()

    async def _streams(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        await task.start_work(task.new_agent_message([Part(text="on it")]))
        await task.update_status(TaskState.TASK_STATE_WORKING, metadata={"progress": 0.5})
        for number, text in enumerate(["one ", "two ", "three"]):
            more, last = number > 0, number == 2
            await task.add_artifact([Part(text=text)], "report", "report.txt", append=more, last_chunk=last)
        page = Part(url="https://example.org/page", media_type="text/html")
        await task.add_artifact([page], name="link", metadata={"kind": "link"})
        await task.complete(task.new_agent_message([Part(text="there you are")], metadata={"mood": "good"}))
        await queue.enqueue_event(new_text_message("too late", role=Role.ROLE_AGENT))

    async def _fails(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        reason = Part(text="the printer is on fire")
        await task.failed(task.new_agent_message([reason, Part(url="https://example.org/photo")]))

    async def _rejects(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        await task.reject(task.new_agent_message([Part(text="not with me")]))

    async def _gives_up(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        await task.cancel()

    async def _raises(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        raise ValueError("a bug")

    async def _raises_after_its_end(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        await task.complete()
        raise ValueError("a bug")

    async def _refuses(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        raise InvalidParamsError("what is that?")

    async def _breaks(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        raise InternalError("a broken part")

    async def _mislabels(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        parts = [Part(raw=b"42", media_type="text/\u4e2d"), Part(text="42", media_type="a/b\r\nSet-Cookie: a=b")]
        await task.add_artifact(parts, name="mislabelled", last_chunk=True)
        await task.complete()

    async def _returns(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        await task.add_artifact([Part(text="half")], name="half", last_chunk=True)

    async def _chats(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        await queue.enqueue_event(new_text_message("a message to a task", role=Role.ROLE_AGENT))

    async def _mixes(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        status = TaskStatus(state=TaskState.TASK_STATE_WORKING)
        await queue.enqueue_event(TaskStatusUpdateEvent(task_id="another", context_id="c", status=status))

    async def _awaits(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        """Authorisation that comes by another way: it goes on by itself."""
        await task.requires_auth(task.new_agent_message([Part(text="log in over there")]))
        await asyncio.sleep(1.5)
        await task.complete(task.new_agent_message([Part(text="thank you")]))

    async def _tells(self, context: RequestContext, queue: EventQueue, task: TaskUpdater) -> None:
        configuration = context.configuration
        assert configuration is not None
        said = {
            "user": context.call_context.user.user_name,
            "modes": list(configuration.accepted_output_modes),
            "metadata": context.metadata,
            "related": [other.artifacts[0].parts[0].text for other in context.related_tasks],
        }
        part = Part()
        part.data.struct_value.update(said)
        await task.add_artifact([part], name="told", last_chunk=True)
        await task.complete()


class Snapshot(AgentExecutor):
    """Says all at once, by one task that has ended."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        answer = new_text_message("all done", role=Role.ROLE_AGENT)
        await event_queue.enqueue_event(
            Task(
                id=context.task_id,
                context_id=context.context_id,
                history=[context.message, new_text_message("a thought", role=Role.ROLE_AGENT), answer],
                artifacts=[Artifact(artifact_id="a", name="answer", parts=[Part(raw=b"42", media_type="x/y")])],
                status=TaskStatus(state=TaskState.TASK_STATE_COMPLETED, message=answer),
            )
        )

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None: ...


class Talks(AgentExecutor):
    """Asks until it has two answers, and tells what it remembers: what the SDK's server would hand it."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        task, before = updater(context, event_queue), context.current_task
        if before is None:
            before = new_task_from_user_message(context.message)
            await event_queue.enqueue_event(before)
        asked = before.status.message.parts[0].text if before.status.HasField("message") else ""
        turn = len([message for message in before.history if message.role == Role.ROLE_AGENT]) + bool(asked)
        await task.add_artifact([Part(text=context.get_user_input())], name=f"answer-{turn}", last_chunk=True)
        if turn < 2:
            await task.requires_input(task.new_agent_message([Part(text=f"question {turn + 1}")]))
            return
        heard = [message.parts[0].text for message in before.history]
        kept = [artifact.name for artifact in before.artifacts]
        told = f"{heard} {kept} {TaskState.Name(before.status.state)} {asked}"
        await task.complete(task.new_agent_message([Part(text=told)]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await updater(context, event_queue).cancel()


class Slow(AgentExecutor):
    """Writes a line a beat until the file that its text names is there; notes what happens to it in files beside."""

    def __init__(self) -> None:
        self.together, self.most = 0, 0
        self.files: dict[str | None, Path] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        there = self.files[context.task_id] = Path(context.get_user_input())
        task = updater(context, event_queue)
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        await task.start_work()
        await task.add_artifact([Part(text="line\n")], name="lines")
        _note(there, "began")
        self.together += 1
        self.most = max(self.most, self.together)
        try:
            while not there.exists():
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            _note(there, "interrupted")
            raise
        finally:
            self.together -= 1
        await task.complete(task.new_agent_message([Part(text=f"{self.most} at once")]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        _note(self.files[context.task_id], "cancel")
        await updater(context, event_queue).cancel()


class Stubborn(Slow):
    """Swallows its cancellation, and whatever else is raised in it, until the file is there; cancelling it hangs."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        there = self.files[context.task_id] = Path(context.get_user_input())
        _note(there, "began")
        while not there.exists():
            with suppress(BaseException):
                await asyncio.sleep(0.02)
        with suppress(BaseException):
            await updater(context, event_queue).complete()
        _note(there, "ended")

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        _note(self.files[context.task_id], "cancel")
        await asyncio.sleep(60)


def _note(there: Path, what: str) -> None:
    """Appends a line to the file of what has happened."""
    with there.with_suffix(".notes").open("a") as file:
        file.write(f"{what}\n")


def notes(there: Path) -> list[str]:
    """What has happened so far."""
    path = there.with_suffix(".notes")
    return path.read_text().split() if path.exists() else []


#: An executor, and what makes one.
an_executor = HelloWorld()


def make_executor() -> AgentExecutor:
    return HelloWorld()


def make_nonsense() -> Message:
    return Message()
