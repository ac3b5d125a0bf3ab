"""A batch's webhook: told once when it is complete, and again when what was run again has ended too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from standardwebhooks import Webhook

from tasks_app import engine
from tasks_app.models import Batch, PushConfig, PushDelivery
from tasks_app.push import configs, operate, outbox
from tasks_app.push.values import Attempt, Claimed
from tasks_app.status import TERMINAL, Lane
from tests.engine.test_batches import FAILED, opened, rerun, settled
from tests.engine.test_push import sent, to
from tests.factory import Factory, admit, completed
from tests.receivers import Receiver, receiver

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.A2A_PUSH_ALLOWED = ["127.0.0.1"]


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def told(factory: Factory, hook: Receiver | str, **fields: Any) -> UUID:
    """A batch of two places that tells this address."""
    batch_id = opened(factory.owner, **fields)
    engine.run(configs.create_of_batch, batch_id, to(hook))
    return batch_id


def claimed() -> list[Claimed]:
    return engine.run(outbox.claim, limit=9, per_host=9, per_failing_host=9, lease_s=60.0)


def end(factory: Factory, task_id: UUID) -> None:
    admit({Lane.IO: 10})
    factory.write(factory.claim(task_id), finish=completed())


def zulu(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def test_it_is_told_when_the_last_task_has_ended_and_once(factory: Factory, hook: Receiver) -> None:
    batch_id = told(factory, hook, name="scans", metadata={"ward": 3})
    factory.finished(batch_id=batch_id, batch_index=0)
    last = factory.pending(batch_id=batch_id, batch_index=1)
    settled()
    assert (sent(), hook.requests) == (0, [])
    end(factory, last)
    assert settled() == [batch_id]
    assert (sent(), sent()) == (1, 0)
    (request,) = hook.requests
    batch, config = Batch.objects.get(), PushConfig.objects.get()
    assert batch.completed_at is not None
    assert json.loads(request.body) == {
        "type": "batch.completed",
        "timestamp": zulu(batch.completed_at),
        "data": {
            "id": str(batch_id),
            "name": "scans",
            "size": 2,
            "refused": 0,
            "counts": {"completed": 2},
            "metadata": {"ward": 3},
            "created_at": zulu(batch.created_at),
            "completed_at": zulu(batch.completed_at),
        },
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == f"msg_{config.id.hex}_1"
    assert (config.state, config.delivered) == ("done", 1)
    delivery = PushDelivery.objects.get()
    assert (delivery.batch_id, delivery.status_code) == (batch_id, 200)


def test_it_is_signed_with_the_clients_secret(factory: Factory, hook: Receiver) -> None:
    secret = operate.issue_secret(factory.owner.name)
    batch_id = told(factory, hook)
    factory.finished(batch_id=batch_id, batch_index=0)
    settled()
    assert sent() == 1
    (request,) = hook.requests
    Webhook(secret).verify(request.body, dict(request.headers))


def test_it_is_told_again_after_a_rerun_with_the_new_counts(factory: Factory, hook: Receiver) -> None:
    batch_id = told(factory, hook)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    settled()
    assert sent() == 1
    (made,) = rerun(failed)
    assert (settled(), sent()) == ([], 0)
    end(factory, made.task_id)
    assert settled() == [batch_id]
    assert sent() == 1
    assert [json.loads(request.body)["data"]["counts"] for request in hook.requests] == [
        {"failed": 1},
        {"completed": 1},
    ]
    assert [request.headers["webhook-id"][-2:] for request in hook.requests] == ["_1", "_2"]
    assert PushConfig.objects.get().state == "done"


def test_of_two_completions_that_were_not_told_the_newest_is(factory: Factory, hook: Receiver) -> None:
    hook.reply = lambda request: (503 if len(hook.requests) == 1 else 200, {})
    batch_id = told(factory, hook)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    settled()
    assert sent() == 1
    assert PushConfig.objects.get().failures == 1
    (made,) = rerun(failed)
    PushConfig.objects.update(next_at=Now())
    assert sent() == 0, "it is open again"
    end(factory, made.task_id)
    settled()
    assert sent() == 1
    assert json.loads(hook.requests[-1].body)["data"]["counts"] == {"completed": 1}
    assert PushConfig.objects.get().delivered == 2


def test_who_tells_of_a_completion_that_is_older_has_lost_the_claim(factory: Factory) -> None:
    batch_id = told(factory, "http://127.0.0.1:1/x")
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    settled()
    (held,) = claimed()
    (made,) = rerun(failed)
    end(factory, made.task_id)
    assert settled() == [batch_id]
    taken = Attempt(generation=1, number=1, duration_s=0.1, status_code=200)
    assert not engine.run(outbox.advance, held, taken, lease_s=60.0)
    config = PushConfig.objects.get()
    assert (config.state, config.delivered) == ("active", 0)
    assert [again.id for again in claimed()] == [held.id]


def test_one_that_is_dead_stays_so_until_it_is_resumed(factory: Factory, hook: Receiver) -> None:
    hook.reply = lambda request: (410 if len(hook.requests) == 1 else 200, {})
    batch_id = told(factory, hook)
    failed = factory.finished(FAILED, batch_id=batch_id, batch_index=0)
    settled()
    assert sent() == 1
    assert PushConfig.objects.get().state == "dead"
    (made,) = rerun(failed)
    end(factory, made.task_id)
    settled()
    assert sent() == 0
    assert operate.resume([PushConfig.objects.get().id])
    assert sent() == 1
    assert PushConfig.objects.get().state == "done"


def test_it_goes_with_its_batch(factory: Factory, hook: Receiver) -> None:
    batch_id = told(factory, hook)
    factory.finished(batch_id=batch_id, batch_index=0)
    settled()
    assert sent() == 1
    engine.run(engine.prune, dict.fromkeys(TERMINAL, 0.0))
    assert (Batch.objects.count(), PushConfig.objects.count(), PushDelivery.objects.count()) == (0, 0, 0)


def test_a_webhook_is_a_tasks_or_a_batchs_and_a_batch_has_one(factory: Factory) -> None:
    batch_id = told(factory, "http://127.0.0.1:1/x")
    with pytest.raises(IntegrityError), transaction.atomic():
        engine.run(configs.create_of_batch, batch_id, to("http://127.0.0.1:1/y"))
    for fields in ({"task_id": None}, {"task_id": factory.pending()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            PushConfig.objects.filter(batch=batch_id).update(**fields, **({} if fields["task_id"] else {"batch": None}))
