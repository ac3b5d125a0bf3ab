"""judge: moves the agents' circuit breakers on, by what their attempts came to. The dispatcher calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tasks_app.engine.core import Statement, Steps, transactional
from tasks_app.models.attempt import BREAKER_FAILURES, Outcome
from tasks_app.models.control import Breaker
from tasks_app.policies import BreakerPolicy
from tasks_app.status import TERMINAL, TaskStatus

_State = Breaker.State


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """A breaker as it stands; ``changed`` if this call moved it on. ``probing``: half open, with a probe under way."""

    agent: str
    state: str
    probing: bool = False
    changed: bool = False
    reason: str = ""


MAKE = """
INSERT INTO tasks_app_breaker (agent, state, changed_at, reason)
SELECT agent, 'closed', now(), '' FROM unnest(%(agent)s::text[]) AS agent
ON CONFLICT (agent) DO NOTHING
"""
# Served by attempt_failures_idx, which is only used where the outcomes are literals. The ends in all are counted only
# where the failures alone would trip it, by attempt_claimed_brin.
_FAILURES = ", ".join(f"'{outcome.value}'" for outcome in sorted(BREAKER_FAILURES))
LOOK = f"""
SELECT breaker.agent, breaker.state, breaker.retry_at <= now(), breaker.probe, failed.n,
       CASE WHEN failed.n >= item.failures AND item.rate > 0 THEN (
           SELECT count(*) FROM tasks_app_taskattempt
           WHERE agent = item.agent AND claimed_at > failed.since AND ended_at IS NOT NULL) ELSE failed.n END,
       probe.status, attempt.outcome, probe.epoch, breaker.probe_epoch
FROM unnest(%(agent)s::text[], %(window_s)s::float8[], %(failures)s::int[], %(rate)s::float8[])
     AS item(agent, window_s, failures, rate)
JOIN tasks_app_breaker breaker ON breaker.agent = item.agent
CROSS JOIN LATERAL (
    SELECT GREATEST(breaker.changed_at, now() - item.window_s * interval '1 second') AS since,
           (SELECT count(*) FROM tasks_app_taskattempt
            WHERE agent = item.agent AND outcome IN ({_FAILURES})
              AND ended_at > GREATEST(breaker.changed_at, now() - item.window_s * interval '1 second')) AS n
) failed
LEFT JOIN tasks_app_task probe ON probe.id = breaker.probe
LEFT JOIN tasks_app_taskattempt attempt
       ON attempt.task_id = breaker.probe AND attempt.epoch = breaker.probe_epoch + 1
FOR UPDATE OF breaker
"""  # noqa: S608 (only constants are put in)
MOVE = """
UPDATE tasks_app_breaker breaker
SET state = item.state, changed_at = now(), reason = item.reason, probe = NULL, probe_epoch = NULL,
    retry_at = CASE WHEN item.state = 'open' THEN now() + item.open_s * interval '1 second' END
FROM unnest(%(agent)s::text[], %(state)s::text[], %(reason)s::text[], %(open_s)s::float8[])
     AS item(agent, state, reason, open_s)
WHERE breaker.agent = item.agent
"""
PROBE = """
UPDATE tasks_app_breaker breaker SET probe = item.task_id, probe_epoch = item.epoch
FROM unnest(%(agent)s::text[], %(task_id)s::uuid[], %(epoch)s::int[]) AS item(agent, task_id, epoch)
WHERE breaker.agent = item.agent AND breaker.state = 'half_open'
"""
PROBED = "SELECT agent FROM tasks_app_breaker WHERE agent = ANY(%(agent)s) AND probe IS NOT NULL"


@transactional
def judge(policies: Mapping[str, BreakerPolicy]) -> Steps[list[BreakerState]]:
    """The breakers of these agents after looking at what became of their attempts; made where there was none."""
    if not policies:
        return []
    agents = sorted(policies)
    params: dict[str, Any] = {
        "agent": agents,
        "window_s": [policies[agent].window_s for agent in agents],
        "failures": [policies[agent].failures for agent in agents],
        "rate": [policies[agent].rate for agent in agents],
    }
    yield Statement(MAKE, params)
    rows = yield Statement(LOOK, params)
    states = [_next(row, policies[row[0]]) for row in rows]
    changed = [state for state in states if state.changed]
    if changed:
        move = {
            "agent": [state.agent for state in changed],
            "state": [state.state for state in changed],
            "reason": [state.reason for state in changed],
            "open_s": [policies[state.agent].open_s for state in changed],
        }
        yield Statement(MOVE, move)
    return states


def mark_probes(probes: Mapping[str, tuple[UUID, int]]) -> Steps[None]:
    """Remembers which task, admitted with which epoch, tries the circuit of each of these agents."""
    params = {
        "agent": list(probes),
        "task_id": [task_id for task_id, _ in probes.values()],
        "epoch": [epoch for _, epoch in probes.values()],
    }
    yield Statement(PROBE, params)


def probed(agents: Sequence[str]) -> Steps[list[str]]:
    """Those of these half-open agents that have been let through a probe since they were judged last.

    However it has ended, until that is judged it stays the only one: else a probe that fails at once would be followed
    by many.
    """
    return [row[0] for row in (yield Statement(PROBED, {"agent": list(agents)}))]


def _next(row: tuple[Any, ...], policy: BreakerPolicy) -> BreakerState:
    agent, state, due, probe, failed, ended, status, outcome, epoch, probe_epoch = row
    if state == _State.CLOSED and policy.trips(failed=failed, ended=ended):
        reason = f"{failed} of {ended} attempts" if policy.rate else f"{failed} attempts"
        return _moved(agent, _State.OPEN, f"{reason} failed within {policy.window_s:g} s")
    if state == _State.OPEN and due:
        return _moved(agent, _State.HALF_OPEN, "one task is let through as a probe")
    if state == _State.HALF_OPEN and probe is not None:
        return _after_probe(agent, status, outcome, epoch, probe_epoch)
    return BreakerState(agent=agent, state=state)


def _after_probe(agent: str, status: str | None, outcome: str | None, epoch: int, probe_epoch: int) -> BreakerState:
    if outcome in (Outcome.COMPLETED, Outcome.REJECTED, Outcome.INTERRUPTED, Outcome.SNOOZED):
        return _moved(agent, _State.CLOSED, "the probe ended well")
    if outcome in BREAKER_FAILURES:
        return _moved(agent, _State.OPEN, f"the probe ended: {outcome}")
    running = outcome is None and status == TaskStatus.RUNNING
    waiting = outcome is None and status == TaskStatus.PENDING and epoch == probe_epoch
    if not (running or waiting) or status in TERMINAL:
        # Cancelled, handed back, taken back: it said nothing about the agent, so another one is let through.
        return _moved(agent, _State.HALF_OPEN, "the probe did not run to its end; another is let through")
    return BreakerState(agent=agent, state=_State.HALF_OPEN, probing=True)


def _moved(agent: str, state: Breaker.State, reason: str) -> BreakerState:
    return BreakerState(agent=agent, state=state, changed=True, reason=reason)
