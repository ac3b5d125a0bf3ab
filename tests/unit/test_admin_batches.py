"""The admin's pages of batches: how far they are, and what an operator does to all tasks of one."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client as Browser
from django.urls import reverse

from tasks_app import engine
from tasks_app.engine import NewBatch
from tasks_app.models import Batch, Task
from tasks_app.push import configs
from tests.engine.test_batches import FAILED
from tests.engine.test_push import to
from tests.factory import Factory
from tests.unit.conftest import Get, shown_ids

BATCHES = reverse("admin:tasks_app_batch_changelist")
TASKS = reverse("admin:tasks_app_task_changelist")


def page(name: str, pk: UUID) -> str:
    return reverse(f"admin:tasks_app_batch_{name}", args=[pk])


def made(factory: Factory, name: str = "", **fields: Any) -> UUID:
    """A batch of which one task is pending, one has failed and one item was refused."""
    new = NewBatch(client_id=factory.owner.pk, digest=b"d" * 32, size=3, name=name, **fields)
    batch_id = engine.run(engine.open_batch, new).batch_id
    factory.pending(batch_id=batch_id, batch_index=0)
    factory.finished(FAILED, batch_id=batch_id, batch_index=1)
    engine.run(engine.refuse, batch_id, [{"index": 2, "field": "agent", "message": "<no> such"}])
    return batch_id


def test_the_list_shows_how_far_each_is(get: Get, factory: Factory) -> None:
    batch_id = made(factory, "scans of today")
    html = get(BATCHES)
    for text in ("scans of today", "owner", "1 pending", "1 failed", "50%"):
        assert text in html
    assert "scans of today" in get(BATCHES, q="scans")
    assert "scans of today" in get(BATCHES, q=str(batch_id)[:20])
    assert "scans of today" not in get(BATCHES, q="other")


def test_the_list_needs_as_many_queries_for_many_as_for_one(
    get: Get, factory: Factory, django_assert_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    made(factory)
    get(BATCHES)
    with CaptureQueriesContext(connection) as one:
        get(BATCHES)
    for _ in range(5):
        made(factory)
    with CaptureQueriesContext(connection) as many:
        get(BATCHES)
    assert len(many) == len(one)


def test_the_page_shows_what_was_refused_its_tasks_and_its_webhook(get: Get, factory: Factory) -> None:
    batch_id = made(factory, metadata={"ward": 3}, key="k-1")
    engine.run(configs.create_of_batch, batch_id, to("https://hooks.example:8443/hush"))
    html = get(page("change", batch_id))
    for text in ("#2", "&lt;no&gt; such", "ward", "k-1", "hooks.example:8443, active"):
        assert text in html
    assert "hush" not in html
    task = factory.pending()
    assert shown_ids(get(TASKS, q=f"batch:{batch_id}")) == set(
        Task.objects.exclude(id=task).values_list("id", flat=True)
    )
    assert shown_ids(get(TASKS, q=f"batch:{uuid4()}")) == set()


def test_what_has_not_ended_is_cancelled_after_it_was_asked_back(browser: Browser, get: Get, factory: Factory) -> None:
    batch_id = made(factory, "scans")
    assert "Cancel what has not ended of scans" in get(page("cancel_batch", batch_id))
    assert Task.objects.filter(status="pending").count() == 1
    assert browser.post(page("cancel_batch", batch_id)).status_code == 302
    assert sorted(Task.objects.values_list("status", flat=True)) == ["cancelled", "failed"]
    assert LogEntry.objects.get().change_message == "Cancelled 1 task."
    assert page("cancel_batch", batch_id) not in get(page("change", batch_id))
    assert "Nothing was done" in str(browser.post(page("cancel_batch", batch_id), follow=True).content)


def test_what_failed_is_run_again_after_it_was_asked_back(browser: Browser, get: Get, factory: Factory) -> None:
    batch_id = made(factory)
    assert page("rerun_failed", batch_id) in get(page("change", batch_id))
    assert browser.post(page("rerun_failed", batch_id)).status_code == 302
    assert Batch.objects.get().places.filter(status="pending").count() == 2
    assert LogEntry.objects.get().change_message == "1 task run again."
    assert page("rerun_failed", batch_id) not in get(page("change", batch_id))


@pytest.mark.parametrize("name", ["change", "cancel_batch", "rerun_failed"])
def test_one_that_is_gone_leads_away(browser: Browser, name: str) -> None:
    assert browser.get(page(name, uuid4())).status_code == 302


def test_who_may_not_changes_nothing(watcher: Browser, factory: Factory) -> None:
    batch_id = made(factory)
    for name in ("cancel_batch", "rerun_failed"):
        assert watcher.post(page(name, batch_id)).status_code == 403
    assert watcher.get(BATCHES).status_code == 403
    assert Task.objects.count() == 2
