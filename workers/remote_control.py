"""Celery's ``revoke`` and ``terminate`` commands, ours in every lane: for a job of ours they cancel its task.

Flower's buttons, ``celery control revoke`` and ``app.control.revoke`` all end here, in every worker, since the command
is a broadcast; the first worker's statement cancels, the others find nothing to do. Ids that are none of ours go to
Celery's own commands. The commands run in the worker's main loop, so the database is asked on a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from celery.utils.functional import maybe_list
from celery.worker import control
from django.db import connection

from tasks_app import engine, metrics
from tasks_app.dispatch.queues import parse_job_id
from tasks_app.wakeups import bell, cancelled
from workers.persist import persist

log = logging.getLogger(__name__)

#: The main loop waits this long for the answer; the cancel itself goes on for as long as a lease lasts.
ANSWER_S = 0.5

_celerys_revoke = control.Panel.data["revoke"]


class Canceller(threading.Thread):
    """Cancels what is asked for, all that waits in one statement, on a connection that it closes when idle."""

    def __init__(self) -> None:
        super().__init__(name="canceller", daemon=True)
        self._asked: SimpleQueue[tuple[set[UUID], Future[set[UUID]]]] = SimpleQueue()

    def cancel(self, task_ids: set[UUID]) -> Future[set[UUID]]:
        """Returns at once; the future holds which of the tasks this call cancelled: the others had ended before."""
        done: Future[set[UUID]] = Future()
        self._asked.put((task_ids, done))
        return done

    def run(self) -> None:
        while True:
            asked = [self._asked.get()]
            try:
                while True:
                    asked.append(self._asked.get_nowait())
            except Empty:
                self._cancel(asked)

    def _cancel(self, asked: list[tuple[set[UUID], Future[set[UUID]]]]) -> None:
        try:
            ended = persist(engine.request_cancel, sorted(set().union(*(ids for ids, _ in asked))), by="revoke")
            metrics.cancelled(ended)
            bell.ring(cancelled(ended))
        except Exception as error:
            log.exception("could not cancel what was revoked")
            for _, done in asked:
                done.set_exception(error)
        else:
            for ids, done in asked:
                done.set_result(ids & {task.task_id for task in ended})
        finally:
            connection.close()


_thread: Canceller | None = None


def canceller() -> Canceller:
    """This process's thread, started when first needed."""
    global _thread
    if _thread is None:
        _thread = Canceller()
        _thread.start()
    return _thread


@control.control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: str | None = None, **kwargs: Any) -> Any:
    """Revoke task by task id (or list of ids); a job of the task manager's: cancel its task.

    For a job of ours ``terminate`` and ``signal`` make no difference: what runs is always stopped, and its process
    killed if it does not stop.
    """
    job_ids = sorted({str(each) for each in maybe_list(task_id) or []})
    ours = {job_id: named[0] for job_id in job_ids if (named := parse_job_id(job_id))}
    others = [job_id for job_id in job_ids if job_id not in ours]
    replies = [_cancelled(ours)] if ours else []
    if others or not ours:
        replies.append(_others(state, others, terminate=terminate, signal=signal, **kwargs))
    kind = "error" if any("error" in reply for reply in replies) else "ok"
    return {kind: "; ".join(text for reply in replies for text in reply.values())}


@control.control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]")
def terminate(state: Any, signal: str, task_id: Any, **kwargs: Any) -> Any:
    """Terminate task by task id (or list of ids); a job of the task manager's: cancel its task."""
    return revoke(state, task_id, terminate=True, signal=signal)


def _cancelled(jobs: Mapping[str, UUID]) -> dict[str, str]:
    """Cancels the tasks of these jobs; what to reply."""
    done = canceller().cancel(set(jobs.values()))
    try:
        cancelled = done.result(timeout=ANSWER_S)
    except TimeoutError:
        return {"ok": f"being cancelled: {', '.join(jobs)}"}
    except Exception as error:
        return {"error": f"not cancelled ({type(error).__name__}): {', '.join(jobs)}"}
    won = [job_id for job_id, task_id in jobs.items() if task_id in cancelled]
    texts = {"cancelled": won, "had ended, or is unknown": [job_id for job_id in jobs if job_id not in won]}
    return {"ok": "; ".join(f"{text}: {', '.join(ids)}" for text, ids in texts.items() if ids)}


def _others(state: Any, job_ids: list[str], **options: Any) -> dict[str, str]:
    try:
        return dict(_celerys_revoke(state, job_ids, **options))
    except NotImplementedError:
        return {"error": f"flagged as revoked; the pool cannot terminate what runs: {', '.join(job_ids)}"}
