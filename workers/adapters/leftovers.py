"""Cancels at remote agents what was cancelled here, or failed, while no attempt ran: nobody else would.

Where an attempt runs its handler does it (``conversation.py``). Runs in worker-system, which beat triggers.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from a2a.types import CancelTaskRequest
from a2a.utils.errors import A2AError, TaskNotCancelableError, TaskNotFoundError

from tasks_app import engine
from tasks_app.agents import AgentError
from tasks_app.engine import Leftover
from workers.adapters.failures import judged
from workers.adapters.peer import Peer, peer_of
from workers.adapters.remote import REMOTES
from workers.adapters.sent import CHECKPOINT

log = logging.getLogger(__name__)

#: How many are asked for at once, and the longest that one may take.
TOGETHER, ASK_S = 20, 10.0
#: After a cancel it is tried for so long, and so often.
WITHIN_S, AGAIN_S = 600.0, 60.0

_one_at_a_time = threading.Lock()


def cancel() -> int:
    """Asks remote agents to cancel what is left; of how many tasks. 0 at once if this process is at it already."""
    if not REMOTES or not _one_at_a_time.acquire(blocking=False):
        return 0
    try:
        taken = engine.run(
            engine.leftovers, sorted(REMOTES), name=CHECKPOINT, within_s=WITHIN_S, again_s=AGAIN_S, limit=TOGETHER
        )
        if taken:
            found = asyncio.run(_ask(taken))
            engine.run(
                engine.left, {task.task_id: what for task, what in zip(taken, found, strict=True)}, name=CHECKPOINT
            )
        return len(taken)
    finally:
        _one_at_a_time.release()


async def _ask(taken: list[Leftover]) -> list[tuple[str, str]]:
    peers = {task.agent: peer_of(REMOTES[task.agent]) for task in taken}
    try:
        return await asyncio.gather(*(_cancel(task, peers[task.agent]) for task in taken))
    finally:
        for peer in peers.values():
            await peer.close()


async def _cancel(task: Leftover, peer: Peer) -> tuple[str, str]:
    """What becomes of it: an ``outcome``, or an ``error`` that may be over when it is tried again."""
    if not task.data["task_id"]:
        return "outcome", "unknown"  # it was not said which task it is: nothing, or an answer that was lost
    try:
        async with asyncio.timeout(ASK_S):
            client = await peer.client()
            await client.cancel_task(CancelTaskRequest(id=task.data["task_id"]), context=peer.call())
    except (TaskNotCancelableError, TaskNotFoundError):
        return "outcome", "had ended"
    except (A2AError, AgentError, TimeoutError) as error:
        log.warning("task %s: its remote agent could not be told to cancel: %r", task.task_id, error)
        return _failure(error)
    return "outcome", "cancelled"


def _failure(error: A2AError | AgentError | TimeoutError) -> tuple[str, str]:
    if isinstance(error, A2AError):
        failure = judged(error)
        return "error" if failure.retryable else "outcome", failure.code
    return "error", error.code if isinstance(error, AgentError) else "remote_unavailable"
