"""Reads what operators, agents, breakers and live workers say, for the dispatcher's plan."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.db.models import DurationField, ExpressionWrapper, F, Q
from django.db.models.functions import Now

from tasks_app import agents, engine
from tasks_app.dispatch.plan import Capacity, Rules
from tasks_app.dispatch.queues import parse_queue_name
from tasks_app.models import Breaker, Client, QueueControl, Worker
from tasks_app.models.worker import silent_after_s
from tasks_app.status import Lane

log = logging.getLogger(__name__)
_Scope = QueueControl.Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the dispatcher goes by until it looks again."""

    rules: Rules
    slots: dict[Lane, int]


def look() -> View:
    """What holds now. Moves the circuit breakers on, since nobody else needs them more often."""
    specs = agents.registered()
    workers = live_workers()
    controls = {scope: {row.name: row for row in QueueControl.objects.filter(scope=scope)} for scope in _Scope}
    clients = list(Client.objects.filter(Q(paused_at__isnull=False) | Q(max_running__isnull=False)))
    open_agents, probing = _breakers()
    by_agent = controls[_Scope.AGENT]
    limits = {name: spec.max_running for name, spec in specs.items()}
    limits |= {name: row.max_running for name, row in by_agent.items() if row.max_running is not None}
    rates = {name: spec.dispatch_rate_per_s for name, spec in specs.items()}
    rates |= {name: row.dispatch_rate_per_s for name, row in by_agent.items() if row.dispatch_rate_per_s}
    rules = Rules(
        closed_agents=open_agents | {name for name, row in by_agent.items() if row.paused_at},
        closed_clients=frozenset(client.pk for client in clients if client.paused_at),
        closed_queues=_closed_queues(controls),
        agents=_agents(workers),
        agent_max={name: limit for name, limit in limits.items() if limit is not None},
        client_max={client.pk: client.max_running for client in clients if client.max_running is not None},
        lane_max={name: row.max_running for name, row in controls[_Scope.LANE].items() if row.max_running is not None},
        rates={name: rate for name, rate in rates.items() if rate},
        probing=probing,
        workers={
            worker.name: Capacity(worker.lane, worker.memory_mb, worker.cores, worker.disk_mb) for worker in workers
        },
    )
    slots: dict[Lane, int] = {}
    for worker in workers:
        slots[Lane(worker.lane)] = slots.get(Lane(worker.lane), 0) + worker.slots
    return View(rules=rules, slots=slots)


def live_workers() -> list[Worker]:
    """The workers that take tasks: online, and not silent by the database's clock."""
    age = ExpressionWrapper(Now() - F("heartbeat_at"), output_field=DurationField())
    online = Worker.objects.filter(state=Worker.State.ONLINE).annotate(age=age)
    return [row for row in online if row.age.total_seconds() < silent_after_s()]


def _breakers() -> tuple[frozenset[str], frozenset[str]]:
    """The agents whose breaker is open, and those whose breaker is half open."""
    policies = {name: spec.breaker for name, spec in agents.registered().items() if spec.breaker is not None}
    states = engine.run(engine.judge, policies)
    for state in states:
        if state.changed:
            log.warning("breaker of %s: %s (%s)", state.agent, state.state, state.reason)
    opened = frozenset(state.agent for state in states if state.state == Breaker.State.OPEN)
    return opened, frozenset(state.agent for state in states if state.state == Breaker.State.HALF_OPEN)


def _closed_queues(controls: dict[_Scope, dict[str, QueueControl]]) -> frozenset[tuple[str, int]]:
    closed = set()
    for name, row in controls[_Scope.QUEUE].items():
        queue = parse_queue_name(name)
        if row.paused_at and queue is not None:
            closed.add((queue[0].value, int(queue[1])))
    for name, row in controls[_Scope.LANE].items():
        if row.paused_at:
            closed |= {(name, priority) for priority in range(4)}
    return frozenset(closed)


def _agents(workers: list[Worker]) -> dict[str, frozenset[str]]:
    """The agents of each lane's workers; a lane with a worker that does not say is left out."""
    known: dict[str, set[str]] = {}
    silent = {worker.lane for worker in workers if not worker.agents}
    for worker in workers:
        known.setdefault(worker.lane, set()).update(worker.agents)
    return {lane: frozenset(names) for lane, names in known.items() if lane not in silent}
