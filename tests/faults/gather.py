"""Gathers what the judge looks at: the ledger, and the rows of one load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from tests.faults import ledger
from tests.faults.agents import LIMITS
from tests.faults.evidence import AttemptRow, EventRow, Evidence, Submitted, TaskRow
from tests.live import Live

Row = TypeVar("Row", TaskRow, AttemptRow, EventRow)

# Each selects the fields of its class, in their order, of the tasks of one A2A context.
TASKS = """
SELECT task.id::text, request.message_id, task.agent, status, attempt, task.generation, admitted_at IS NOT NULL,
       lease_id IS NOT NULL, COALESCE(convert_from(chunk.content, 'UTF8')::jsonb ->> 'run', '')
FROM tasks_app_task task JOIN tasks_app_taskrequest request ON request.task_id = task.id
LEFT JOIN artifacts_app_artifact artifact ON artifact.task_id = task.id AND artifact_id = 'effect'
LEFT JOIN artifacts_app_artifactchunk chunk
       ON chunk.task_id = task.id AND chunk.generation = artifact.generation AND chunk.artifact_id = artifact.id
WHERE context_id = %s
"""
ATTEMPTS = """
SELECT task.id::text, number, worker, pid, claimed_at, ended_at, released_at, outcome
FROM tasks_app_taskattempt attempt JOIN tasks_app_task task ON task.id = attempt.task_id WHERE context_id = %s
"""
EVENTS = """
SELECT task.id::text, event.generation, event.kind, event.status, event.attempt
FROM tasks_app_taskevent event JOIN tasks_app_task task ON task.id = event.task_id WHERE context_id = %s
"""
ELSEWHERE = "SELECT id::text FROM tasks_app_task WHERE id = ANY(%s::uuid[]) AND context_id <> %s"


def gather(live: Live, context_id: str, submitted: Sequence[Submitted], ledger_path: Path) -> Evidence:
    """The evidence on the tasks of a context. Of the ledger all but what is known to be of another one's tasks."""
    entries = ledger.read(ledger_path)
    ran = sorted({entry.task for entry in entries})
    elsewhere = {row[0] for row in live.sql(ELSEWHERE, ran, context_id)}
    return Evidence(
        submitted=submitted,
        ledger=[entry for entry in entries if entry.task not in elsewhere],
        tasks=_rows(live, TaskRow, TASKS, context_id),
        attempts=_rows(live, AttemptRow, ATTEMPTS, context_id),
        events=_rows(live, EventRow, EVENTS, context_id),
        limits=LIMITS,
    )


def _rows(live: Live, kind: type[Row], query: str, context_id: str) -> list[Row]:
    names = [field.name for field in fields(kind)]
    return [kind(**dict(zip(names, row, strict=True))) for row in live.sql(query, context_id)]
