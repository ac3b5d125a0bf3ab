"""Notifications: from the event log to a webhook, each event at least once and in order (DESIGN D6; A2A 1.0, 4.3.3)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from standardwebhooks import Webhook

from tasks_app import engine
from tasks_app.database import Line
from tasks_app.engine import Note
from tasks_app.metrics.push import deliveries
from tasks_app.models import Client, PushConfig, PushDelivery, Task, WebhookSecret
from tasks_app.push import configs, outbox
from tasks_app.push.guard import guard
from tasks_app.push.sealing import seal
from tasks_app.push.values import Attempt, NewPush
from tasks_app.status import TaskStatus
from tests.engine.test_races import together
from tests.factory import Factory, completed, new_task
from tests.receivers import Receiver, Request, receiver
from workers import push
from workers.push import BACKOFF, deliver
from workers.webhook import TOTAL_S, Poster

pytestmark = pytest.mark.django_db(transaction=True)

DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def _loopback_is_allowed(settings: Any) -> None:
    settings.A2A_PUSH_ALLOWED = ["127.0.0.1"]


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def to(hook: Receiver | str, **fields: Any) -> NewPush:
    url = hook if isinstance(hook, str) else hook.url
    made = {"config_id": "hook", "named": True, "url": url, "host": url.split("/")[2], **fields}
    return NewPush(**made)


def sent() -> int:
    """Delivers what is due now."""
    return deliver(threading.Event())


def asked(task_id: UUID, new: NewPush, *, owner: Client, most: int = 10) -> Any:
    return engine.run(configs.create, task_id, new, client_id=owner.pk, agent="echo", most=most)


def is_due() -> None:
    """As if the backoff, or the claim, had ended."""
    PushConfig.objects.update(next_at=Now())


def claims(**limits: int) -> list[Any]:
    shares = {"limit": 100, "per_host": 100, "per_failing_host": 100, **limits}
    return engine.run(outbox.claim, lease_s=60.0, **shares)


# --- what is sent ---


def test_an_inline_config_gets_the_task_and_then_every_event_in_order(factory: Factory, hook: Receiver) -> None:
    claim = factory.claimed(push=to(hook), metadata={"for": "it"})
    factory.write(claim, Note(progress=0.25), Note(progress=0.5))
    sent()
    factory.write(claim, finish=completed())
    sent()
    assert hook.generations == [1, 2, 3, 4, 5]
    task, *updates = [request.json for request in hook.requests]
    assert (task["task"]["id"], task["task"]["status"]["state"]) == (str(claim.task_id), "TASK_STATE_SUBMITTED")
    assert (task["task"]["metadata"]["for"], len(task["task"]["history"])) == ("it", 1)
    states = [update["statusUpdate"]["status"]["state"] for update in updates]
    assert states == ["TASK_STATE_WORKING"] * 3 + ["TASK_STATE_COMPLETED"]
    assert PushConfig.objects.get().state == "done"
    assert sent() == 0


def test_a_flood_of_progress_is_sent_whole(factory: Factory, hook: Receiver) -> None:
    claim = factory.claimed(push=to(hook))
    factory.write(claim, *[Note(progress=n / 300) for n in range(300)])
    sent()
    assert hook.generations == list(range(1, 303))


def test_a_request_carries_what_its_config_says(factory: Factory, hook: Receiver, owner: Client) -> None:
    sealed = {"token": seal(b"t0ken"), "scheme": "Bearer", "credentials": seal(b"s3cret")}
    factory.pending(push=to(hook, **sealed))
    sent()
    headers = hook.requests[0].headers
    assert headers["content-type"] == "application/a2a+json"
    assert (headers["authorization"], headers["x-a2a-notification-token"]) == ("Bearer s3cret", "t0ken")
    assert headers["webhook-id"] == f"msg_{PushConfig.objects.get().id.hex}_1"
    assert "webhook-signature" not in headers
    assert b"s3cret" not in bytes(PushConfig.objects.get().credentials or b"")


def test_it_is_signed_with_every_secret_of_its_client_that_holds(
    factory: Factory, hook: Receiver, owner: Client
) -> None:
    now = timezone.now()
    secrets = {"new": None, "old": now + timedelta(hours=1), "expired": now - timedelta(seconds=1)}
    for age, (name, expires_at) in enumerate(secrets.items()):
        at = now - timedelta(days=age)
        WebhookSecret.objects.create(client=owner, secret=seal(name.encode()), created_at=at, expires_at=expires_at)
    stranger = Client.objects.create(name="stranger")
    WebhookSecret.objects.create(client=stranger, secret=seal(b"stranger"), created_at=now)
    factory.pending(push=to(hook))
    sent()
    request = hook.requests[0]
    assert request.headers["webhook-signature"].count("v1,") == 2
    for name in ("new", "old"):
        assert Webhook(name.encode()).verify(request.body, request.headers) == request.json
    for name in ("expired", "stranger"):
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(name.encode()).verify(request.body, request.headers)


def test_a_task_without_a_config_is_not_looked_at(factory: Factory) -> None:
    for _ in range(5):
        factory.pending()
    assert (sent(), PushDelivery.objects.count()) == (0, 0)
    with connection.cursor() as cursor:
        cursor.execute(_explained(outbox.CLAIM))
        plan = [row[0].strip() for row in cursor.fetchall()]
    configs_by = [line for line in plan if "on tasks_app_pushconfig" in line and "Update" not in line]
    tasks_by = [line for line in plan if "on tasks_app_task " in line]
    assert all("push_active_idx" in line or "pushconfig_pkey" in line for line in configs_by), plan
    assert all("tasks_app_task_pkey" in line for line in tasks_by), plan


def _explained(sql: str) -> str:
    values = {"limit": "9", "per_host": "9", "per_failing_host": "9", "lease_s": "9.0", "claim": f"'{uuid4()}'"}
    for name, value in values.items():
        sql = sql.replace(f"%({name})s", value)
    return f"EXPLAIN {sql}"


# --- the inline config and idempotency ---


def test_a_repeat_of_a_message_stays_one_though_its_secrets_were_renewed(owner: Client, hook: Receiver) -> None:
    one = to(hook, named=False, token=seal(b"one"))
    first = new_task(owner, push=one)
    again = new_task(
        owner, message_id=first.message_id, message=first.message, push=to(hook, named=False, token=seal(b"two"))
    )
    made, found = engine.run(engine.create, [first, again])
    assert (found.task_id, found.repeated, found.conflict) == (made.task_id, True, False)
    assert PushConfig.objects.get().id == one.id


def test_a_repeat_that_would_be_sent_elsewhere_is_another_request(owner: Client, hook: Receiver) -> None:
    first = new_task(owner, push=to(hook))
    for other in (to("http://elsewhere.example/"), None):
        item = new_task(owner, message_id=first.message_id, message=first.message, push=other)
        assert engine.run(engine.create, [first, item])[1].conflict


def test_of_a_list_only_those_tasks_that_asked_have_one(owner: Client, hook: Receiver) -> None:
    items = [new_task(owner), new_task(owner, push=to(hook)), new_task(owner), new_task(owner, push=to(hook))]
    engine.run(engine.create, items)
    engine.run(engine.create, items)
    assert set(PushConfig.objects.values_list("task_id", flat=True)) == {items[1].id, items[3].id}


# --- create, get, list, delete ---


def test_a_later_config_begins_with_the_next_event(factory: Factory, hook: Receiver) -> None:
    claim = factory.claimed()
    asked(claim.task_id, to(hook), owner=factory.owner)
    sent()
    assert hook.requests == []
    factory.write(claim, Note(progress=0.5))
    sent()
    assert hook.generations == [3]


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.CANCELLED])
def test_on_a_task_that_has_ended_it_gets_the_end(status: TaskStatus, factory: Factory, hook: Receiver) -> None:
    task_id = factory.in_state(status)
    asked(task_id, to(hook), owner=factory.owner)
    sent()
    assert hook.generations == [Task.objects.get().generation]
    assert PushConfig.objects.get().state == "done"


def test_a_config_of_the_same_id_is_replaced_and_goes_on_where_it_was(factory: Factory, hook: Receiver) -> None:
    claim = factory.claimed(push=to("http://127.0.0.1:9/"))
    sent()
    assert PushConfig.objects.get().failures == 1
    asked(claim.task_id, to(hook, scheme="Bearer"), owner=factory.owner)
    sent()
    assert hook.generations == [1, 2]
    config = PushConfig.objects.get()
    assert (config.url, config.scheme, config.failures, config.last_error) == (hook.url, "Bearer", 0, "")


def test_what_is_replaced_while_it_is_sent_is_sent_to_the_new_address(factory: Factory, hook: Receiver) -> None:
    task_id = factory.claimed(push=to(hook)).task_id

    with receiver() as other:

        def replace(request: Request) -> tuple[int, dict[str, str]]:
            in_thread(lambda: asked(task_id, to(other), owner=factory.owner))
            return 200, {}

        hook.reply = replace
        sent()
        sent()
    assert (hook.generations, other.generations) == ([1], [1, 2])


def test_a_deleted_config_sends_nothing_more(factory: Factory, hook: Receiver) -> None:
    task_id = factory.claimed(push=to(hook)).task_id

    def delete(request: Request) -> tuple[int, dict[str, str]]:
        in_thread(lambda: engine.run(configs.delete, task_id, "hook", client_id=factory.owner.pk))
        return 200, {}

    hook.reply = delete
    sent()
    assert hook.generations == [1]
    assert engine.run(configs.delete, task_id, "hook", client_id=factory.owner.pk), "again is the same"
    assert not PushConfig.objects.exists()
    assert PushDelivery.objects.count() == 1, "what was sent stays on record"


def test_a_task_has_at_most_so_many(factory: Factory, hook: Receiver) -> None:
    task_id = factory.pending()
    for name in ("a", "b"):
        assert asked(task_id, to(hook, config_id=name), owner=factory.owner, most=2).config_id == name
    assert isinstance(asked(task_id, to(hook, config_id="c"), owner=factory.owner, most=2), configs.Full)
    assert asked(task_id, to(hook, config_id="b"), owner=factory.owner, most=2).config_id == "b"


@pytest.mark.parametrize("attempt", range(3))
def test_a_crowd_makes_no_more_than_that(attempt: int, factory: Factory, hook: Receiver) -> None:
    task_id = factory.pending()
    pushes = [to(hook, config_id=str(n)) for n in range(6)]
    made = together(*[partial(asked, task_id, new, owner=factory.owner, most=3) for new in pushes])
    assert sum(isinstance(each, configs.Full) for each in made) == 3
    assert PushConfig.objects.count() == 3


def test_configs_are_listed_page_by_page(factory: Factory, hook: Receiver) -> None:
    task_id = factory.pending()
    for name in "dbace":
        asked(task_id, to(hook, config_id=name), owner=factory.owner)
    seen, after, pages = [], "", 0
    while after or not pages:
        page = engine.run(configs.listed, task_id, client_id=factory.owner.pk, after=after, limit=2)
        assert page is not None
        seen += [config.config_id for config in page.configs]
        after, pages = page.next, pages + 1
    assert (seen, pages) == (list("abcde"), 3)


def test_a_task_of_another_client_or_agent_is_none(factory: Factory, hook: Receiver) -> None:
    """DESIGN 9.7; A2A 1.0, section 13.1."""
    task_id = factory.pending(push=to(hook))
    stranger = Client.objects.create(name="stranger")
    for client_id, agent in ((stranger.pk, None), (stranger.pk, "echo"), (factory.owner.pk, "sleep")):
        scope = {"client_id": client_id, "agent": agent}
        assert engine.run(configs.create, task_id, to(hook), most=9, **scope) is None  # type: ignore[arg-type]
        assert engine.run(configs.get, task_id, "hook", **scope) is None  # type: ignore[arg-type]
        assert engine.run(configs.listed, task_id, limit=9, **scope) is None  # type: ignore[arg-type]
        assert not engine.run(configs.delete, task_id, "hook", **scope)  # type: ignore[arg-type]
    found = engine.run(configs.get, task_id, "hook", client_id=factory.owner.pk, agent="echo")
    assert found is not None
    assert found.url == hook.url


# --- failures ---


def test_what_is_not_taken_is_tried_again_later_and_nothing_overtakes_it(factory: Factory, hook: Receiver) -> None:
    claim = factory.claimed(push=to(hook))
    hook.reply = lambda request: (200 if request.generation == 1 else 500, {})
    sent()
    factory.write(claim, Note(progress=0.5))
    config = PushConfig.objects.get()
    assert (config.delivered, config.failures, config.last_error) == (1, 1, "answered 500")
    assert config.claimed_by is None
    hook.reply = lambda request: (200, {})
    is_due()
    sent()
    assert hook.generations == [1, 2, 2, 3]
    assert hook.requests[1].webhook_id == hook.requests[2].webhook_id
    assert hook.requests[1].body == hook.requests[2].body
    assert PushConfig.objects.get().failures == 0
    log = list(PushDelivery.objects.order_by("id").values_list("generation", "number", "status_code", "error"))
    assert log == [(1, 1, 200, ""), (2, 1, 500, "answered 500"), (2, 2, 200, ""), (3, 1, 200, "")]


def test_the_wait_grows_with_every_failure(factory: Factory, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)
    hook.reply = lambda request: (500, {})
    factory.pending(push=to(hook))
    waits = []
    for _ in range(3):
        is_due()
        sent()
        waits.append((PushConfig.objects.get().next_at - PushDelivery.objects.latest("id").at).total_seconds())
    assert waits == pytest.approx([10.0, 20.0, 40.0], abs=0.01)


def test_a_retry_after_is_heeded(factory: Factory, hook: Receiver) -> None:
    hook.reply = lambda request: (429, {"Retry-After": "1000"})
    factory.pending(push=to(hook))
    sent()
    wait = PushConfig.objects.get().next_at - PushDelivery.objects.get().at
    assert wait == timedelta(seconds=1000)


def test_the_default_number_of_failures_covers_about_a_day() -> None:
    from a2a_project import settings as defaults

    waits = [BACKOFF.delay_s(failures, 0.5) for failures in range(defaults.A2A_PUSH_MAX_FAILURES - 1)]
    assert 0.9 * DAY_S < sum(waits) < 1.1 * DAY_S


def test_after_so_many_failures_it_is_dead_until_somebody_resumes_it(
    factory: Factory, hook: Receiver, settings: Any
) -> None:
    settings.A2A_PUSH_MAX_FAILURES = 3
    hook.reply = lambda request: (500, {})
    factory.finished(push=to(hook))
    counted = {outcome: _counted(outcome) for outcome in ("failed", "dead", "delivered")}
    for _ in range(5):
        is_due()
        sent()
    config = PushConfig.objects.get()
    assert (len(hook.requests), config.state, config.failures) == (3, "dead", 3)
    assert config.dead_at is not None
    hook.reply = lambda request: (200, {})
    assert engine.run(outbox.resume, {config.id: None}) == [config.id]
    assert engine.run(outbox.resume, {config.id: None}) == []
    sent()
    assert hook.generations == [1, 1, 1, 1, 2, 3]
    assert PushConfig.objects.get().state == "done"
    assert {outcome: _counted(outcome) - before for outcome, before in counted.items()} == {
        "failed": 2,
        "dead": 1,
        "delivered": 3,
    }


def _counted(outcome: str) -> float:
    return float(deliveries.labels(outcome)._value.get())


def test_what_is_gone_is_dead_at_once(factory: Factory, hook: Receiver) -> None:
    hook.reply = lambda request: (410, {})
    factory.pending(push=to(hook))
    sent()
    assert PushConfig.objects.get().state == "dead"


def test_an_operator_can_have_it_sent_again_from_an_event_on(factory: Factory, hook: Receiver) -> None:
    factory.finished(push=to(hook))
    sent()
    config = PushConfig.objects.get()
    assert config.state == "done"
    assert engine.run(outbox.resume, {config.id: 2}) == [config.id]
    sent()
    assert hook.generations == [1, 2, 3, 2, 3]


def test_an_address_that_may_not_be_reached_any_more_is_a_failure(
    factory: Factory, hook: Receiver, settings: Any
) -> None:
    factory.pending(push=to(hook))
    settings.A2A_PUSH_ALLOWED = []
    sent()
    assert hook.requests == []
    assert "not a public address" in PushConfig.objects.get().last_error


def test_a_secret_that_cannot_be_opened_is_a_failure_and_nothing_is_sent(
    factory: Factory, hook: Receiver, settings: Any
) -> None:
    factory.pending(push=to(hook, token=seal(b"t0ken")))
    settings.SECRET_KEY = "another"
    sent()
    assert hook.requests == []
    assert "A2A_SECRET_KEYS" in PushConfig.objects.get().last_error


# --- many at once ---


def test_two_senders_never_send_an_event_at_the_same_time_nor_out_of_order(factory: Factory, hook: Receiver) -> None:
    """The second comes, and goes through all that is due, while the first waits for its first answer."""
    for n in range(8):
        claim = factory.claimed(push=to(f"{hook.url}/{n}", config_id=str(n)))
        factory.write(claim, *[Note(progress=n / 5) for n in range(5)], finish=completed())
    second: list[subprocess.Popen[bytes]] = []
    started = threading.Lock()

    def reply(request: Request) -> tuple[int, dict[str, str]]:
        with started:
            if not second:
                second.append(process_that_delivers())
        assert second[0].wait(timeout=60) == 0
        return 200, {}

    hook.reply = reply
    sent()
    for n in range(8):
        mine = [request.generation for request in hook.requests if request.path == f"/hook/{n}"]
        assert mine == list(range(1, 9))


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_claims_at_once_each_config_goes_to_one(attempt: int, factory: Factory, hook: Receiver) -> None:
    for n in range(20):
        factory.pending(push=to(hook, config_id=str(n)))
    halves = together(*[lambda: claims(limit=15) for _ in range(3)])
    ids = [claimed.id for half in halves for claimed in half]
    assert len(ids) == len(set(ids))
    assert claims() == [] or len(ids) < 20


def test_a_claim_waits_for_no_other_that_is_under_way(factory: Factory, hook: Receiver) -> None:
    for n in range(2):
        factory.pending(push=to(hook, config_id=str(n)))
    theirs: list[Any] = []

    def claim_too() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        theirs.extend(claims())
        connection.close()

    with transaction.atomic():
        (mine,) = claims(limit=1)
        other = threading.Thread(target=claim_too)
        other.start()
        other.join(timeout=10)
    assert len({mine.id, *[claimed.id for claimed in theirs]}) == 2


def test_a_sender_that_is_killed_after_the_answer_sends_the_same_again_under_the_same_id(
    factory: Factory, hook: Receiver
) -> None:
    """At-least-once: the receiver tells a repeat by its ``webhook-id``."""
    factory.finished(push=to(hook))
    process = process_that_delivers()

    def kill(request: Request) -> tuple[int, dict[str, str]]:
        if request.generation == 2:
            os.kill(process.pid, signal.SIGKILL)
        return 200, {}

    hook.reply = kill
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert sent() == 0, "its claim holds still"
    hook.reply = lambda request: (200, {})
    is_due()
    sent()
    assert hook.generations == [1, 2, 2, 3]
    ids = [request.webhook_id for request in hook.requests]
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


def test_who_lost_the_claim_moves_no_cursor(factory: Factory, hook: Receiver) -> None:
    factory.pending(push=to(hook))
    (late,) = claims()
    is_due()
    (heir,) = claims()
    taken = Attempt(generation=1, number=1, duration_s=0.1, status_code=200)
    assert not engine.run(outbox.advance, late, taken, lease_s=60.0)
    engine.run(outbox.fail, late, taken, wait_s=1000.0, dead=True)
    engine.run(outbox.release, late)
    config = PushConfig.objects.get()
    assert (config.delivered, config.state, config.failures, config.claimed_by) == (0, "active", 0, heir.claim)
    assert engine.run(outbox.advance, heir, taken, lease_s=60.0)


def test_an_event_that_was_taken_is_noted_again_where_the_answer_to_the_first_note_was_lost(
    factory: Factory, hook: Receiver
) -> None:
    factory.pending(push=to(hook))
    (held,) = claims()
    taken = Attempt(generation=1, number=1, duration_s=0.1, status_code=200)
    assert [engine.run(outbox.advance, held, taken, lease_s=60.0) for _ in range(2)] == [True, True]
    assert (PushConfig.objects.get().delivered, PushDelivery.objects.count()) == (1, 1)


@pytest.mark.parametrize(("held_s", "expected"), [(2 * TOTAL_S + 30.0, [1]), (2 * TOTAL_S, [])])
def test_nothing_is_sent_that_another_might_send_before_the_answer_comes(
    held_s: float, expected: list[int], factory: Factory, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that answered late has used up a claim, of which so much is left."""
    monkeypatch.setattr(push, "LEASE_S", held_s)
    factory.pending(push=to(hook))
    (held,) = claims()

    async def turn() -> None:
        line = Line()
        async with Poster(guard(), slots=1) as poster:
            await push.Turn(held, line, poster).take()
        await line.close()

    asyncio.run(turn())
    assert hook.generations == expected


def test_the_hosts_share_the_places(factory: Factory) -> None:
    for n in range(20):
        factory.pending(push=to("http://slow.example/", config_id=str(n)))
    quick = factory.pending(push=to("http://quick.example/"))
    first = claims(limit=10, per_host=4)
    assert Counter(claimed.host for claimed in first) == {"slow.example": 4, "quick.example": 1}
    assert quick in {claimed.task_id for claimed in first}
    assert claims(limit=10, per_host=4) == [], "those that are claimed count"
    assert len(claims(limit=10, per_host=7)) == 3


def test_what_failed_before_has_few_places_of_its_own(factory: Factory) -> None:
    for n in range(6):
        factory.pending(push=to("http://host.example/", config_id=str(n)))
    PushConfig.objects.filter(config_id__in="0123").update(failures=1, next_at=F("next_at") - timedelta(hours=1))
    claimed = claims(limit=10, per_host=5, per_failing_host=1)
    assert sorted(each.failures for each in claimed) == [0, 0, 1]


def test_a_config_with_much_to_send_lets_the_others_have_their_turn(
    factory: Factory, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "TURN_S", 0.0)
    monkeypatch.setattr(push, "SLOTS", 1)
    for name in ("a", "b"):
        claim = factory.claimed(push=to(f"{hook.url}/{name}", config_id=name))
        factory.write(claim, Note(progress=0.5))
    assert sent() == 6
    assert [request.path[-1] for request in hook.requests] == list("ababab")


def test_a_worker_that_leaves_gives_back_what_it_was_sending(factory: Factory, hook: Receiver) -> None:
    factory.finished(push=to(hook))
    leaving, answered = threading.Event(), threading.Event()

    def leave(request: Request) -> tuple[int, dict[str, str]]:
        leaving.set()
        answered.wait(timeout=30)
        return 200, {}

    hook.reply = leave
    deliver(leaving)
    answered.set()
    config = PushConfig.objects.get()
    assert (config.state, config.claimed_by, config.delivered) == ("active", None, 0)
    assert deliver(leaving) == 0
    hook.reply = lambda request: (200, {})
    sent()
    assert hook.generations[-3:] == [1, 2, 3]


def test_in_one_process_one_thread_sends(factory: Factory, hook: Receiver) -> None:
    factory.pending(push=to(hook))
    given: list[int] = []

    def another(request: Request) -> tuple[int, dict[str, str]]:
        in_thread(lambda: given.append(sent()))
        return 200, {}

    hook.reply = another
    assert sent() == 1
    assert given == [0]


def test_a_pruned_task_takes_its_configs_and_its_log_along(factory: Factory, hook: Receiver) -> None:
    factory.finished(push=to(hook))
    sent()
    assert PushDelivery.objects.count() == 3
    Task.objects.update(completed_at=F("completed_at") - timedelta(days=400))
    assert engine.run(engine.prune, {TaskStatus.COMPLETED: DAY_S})
    assert (PushConfig.objects.count(), PushDelivery.objects.count()) == (0, 0)


# --- helpers ---


def in_thread(body: Callable[[], Any]) -> None:
    """On a connection of its own, as another process would."""

    def run() -> None:
        try:
            body()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=30)


def process_that_delivers() -> subprocess.Popen[bytes]:
    """Another process that sends what is due in this test's database, and ends."""
    said = connection.settings_dict
    account = f"{quote(said['USER'])}:{quote(said['PASSWORD'])}"
    url = f"postgresql://{account}@{said['HOST']}:{said['PORT']}/{said['NAME']}"
    code = "import threading, django; django.setup(); from workers.push import deliver; deliver(threading.Event())"
    env = {**os.environ, "DATABASE_URL": url, "A2A_PUSH_ALLOWED": "127.0.0.1", "A2A_OPEN_MODE": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=env)
