"""An executor as it is written for the a2a-sdk's own server: nothing here knows of this product."""

from __future__ import annotations

from collections import Counter

from a2a.helpers import new_data_part, new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater


class WordCount(AgentExecutor):
    """Says how often each word stands in the message."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        if context.current_task is None and context.message is not None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        task = _updater(context, event_queue)
        await task.start_work()
        words = context.get_user_input().lower().split()
        await task.add_artifact([new_data_part(dict(Counter(words)))], name="words", last_chunk=True)
        await task.complete(task.new_agent_message([new_text_part(f"{len(words)} words")]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await _updater(context, event_queue).cancel()


def _updater(context: RequestContext, event_queue: EventQueue) -> TaskUpdater:
    return TaskUpdater(event_queue, context.task_id or "", context.context_id or "")
