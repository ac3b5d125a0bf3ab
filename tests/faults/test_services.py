"""Faults of RabbitMQ, Redis and PostgreSQL under a mixed load (DESIGN D1, 9.5, 9.8): they cost latency only."""

from __future__ import annotations

import time

import pytest

from stack import Services
from tests.faults import ledger
from tests.faults.broker import Broker
from tests.faults.load import Load, timed
from tests.faults.processes import every_slot_works, family, put_back, stopped
from tests.live import TIMES, Live, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


@pytest.mark.parametrize("name", ["rabbitmq", "redis", "postgresql"])
def test_killing_a_service_loses_nothing(live: Live, load: Load, service: Services, name: str) -> None:
    load.under_way()
    service.kill(name)
    service.start_process(name)
    service.wait_ready(name)
    load.ends_well()


@pytest.mark.parametrize("name", ["rabbitmq", "redis", "postgresql"])
def test_a_service_that_answers_nothing_for_longer_than_a_lease_loses_nothing(
    live: Live, load: Load, service: Services, name: str
) -> None:
    """Its connections stay open; whoever waits for it waits, and goes on when it does."""
    load.under_way()
    over_at = time.monotonic() + float(TIMES["A2A_LEASE_S"]) + 1
    with stopped(family(service.pid(name))):
        wait_for(lambda: time.monotonic() > over_at, what="more than a lease has passed")
    load.ends_well()


def test_purging_the_queues_loses_nothing(live: Live, load: Load, broker: Broker) -> None:
    load.under_way()
    broker.purge()
    load.ends_well()


def test_deleting_the_queues_under_their_consumers_loses_nothing(live: Live, load: Load, broker: Broker) -> None:
    load.under_way()
    broker.delete()
    load.ends_well()
    assert load.losses() == []
    wait_for(lambda: set(broker.consumers().values()) == {1}, what="each queue has its worker")


def test_queues_deleted_while_no_worker_lives_are_made_again_by_the_next(live: Live, broker: Broker) -> None:
    live.stack.kill("worker-io")
    load = Load(live)
    load.send([timed("ledger-io", seconds=0.1) for _ in range(5)])
    broker.delete()
    live.stack.start_process("worker-io")
    load.ends_well()
    put_back(live)


def test_a_queue_of_another_kind_holds_a_worker_up_and_does_not_end_it(live: Live, broker: Broker) -> None:
    """Nor does one that is deleted between its declaration and the consumer's start: both are errors of a channel."""
    live.stack.kill("worker-io")
    broker.replace_by_classic("a2a.io.low")
    pid = live.stack.start_process("worker-io")
    wait_for(lambda: "PRECONDITION_FAILED" in live.stack.log("worker-io"), what="the worker meets the queue")
    load = Load(live)
    load.send([timed("ledger-io", seconds=0.1, priority=priority) for priority in ("low", "high")])
    broker.delete("a2a.io.low")
    load.ends_well()
    assert live.stack.pid("worker-io") == pid


def test_a_queue_that_answers_nothing_while_its_broker_is_well_is_replaced(
    live: Live, service: Services, broker: Broker
) -> None:
    """Else nothing would be published any more, and a worker that starts waits for its answer before it begins."""
    live.stack.kill("worker-io")
    load = Load(live)
    load.send([timed("ledger-io", seconds=0.1, priority=priority) for priority in ("low", "high")])
    broker.silence(service, "a2a.io.low")
    live.stack.kill("dispatcher")
    for name in ("worker-io", "dispatcher"):
        live.stack.start_process(name)
    load.ends_well()
    log = live.stack.log("dispatcher")
    assert "queue a2a.io.low does not answer" in log, log[-3000:]
    put_back(live)


@pytest.mark.parametrize(("agent", "process"), [("ledger-cpu", "worker-cpu"), ("ledger-io", "worker-io")])
def test_a_message_that_is_delivered_a_hundred_times_runs_its_task_once(
    live: Live, broker: Broker, agent: str, process: str
) -> None:
    load = Load(live)
    with stopped(family(live.stack.pid(process))):
        item = load.submit(timed(agent, seconds=2.0))
        admitted = "SELECT 1 FROM tasks_app_task WHERE id = %s AND admitted_at IS NOT NULL"
        wait_for(lambda: live.sql(admitted, item.task_id), what="the task is admitted")
        broker.repeat(live, [item.task_id], times=100)
    live.running(item.task_id)
    broker.repeat(live, [item.task_id], times=100)
    load.ends_well()
    broker.repeat(live, [item.task_id], times=100)
    after = Load(live)
    after.send([timed(agent, seconds=0.05) for _ in range(3)])
    after.ends_well()
    load.ends_well()
    starts = [entry for entry in ledger.read(live.ledger) if (entry.kind, entry.task) == ("start", item.task_id)]
    assert len(starts) == 1


def test_what_no_worker_can_use_stops_nobody(live: Live, load: Load, broker: Broker) -> None:
    broker.litter()
    load.ends_well()
    assert load.losses() == []
    wait_for(lambda: set(broker.consumers().values()) == {1}, what="each queue has its worker")
    every_slot_works(live)
