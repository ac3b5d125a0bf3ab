"""What an operator does to tasks from the admin: run again, put first, put off; and the list of what failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import unquote
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client as Browser
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks_app import control, engine
from tasks_app.admin import paginator
from tasks_app.admin.dead_letters import DeadLetterAdmin
from tasks_app.admin.site import navigation
from tasks_app.control import Scope
from tasks_app.engine import CheckpointRecord, Finish, Usage, Write
from tasks_app.models import Outcome, Task
from tasks_app.status import Priority, TaskStatus
from tasks_app.wakeups import Ring
from tests.factory import Factory
from tests.unit.conftest import Get, hidden_fields, shown_ids

LIST = reverse("admin:tasks_app_task_changelist")
DEAD = reverse("admin:tasks_app_task_dead_letters")
ERROR = {"code": "no_anatomy", "message": "there is nothing in it"}
FAILED = Finish(
    status=TaskStatus.FAILED, outcome=Outcome.FAILED, error=ERROR, traceback="Traceback (most recent call last): boom"
)


def page(task_id: object) -> str:
    return reverse("admin:tasks_app_task_change", args=[task_id])


def button(name: str, task_id: UUID) -> str:
    return reverse(f"admin:tasks_app_task_{name}_task", args=[task_id])


def done(name: str) -> str:
    return reverse(f"admin:tasks_app_task_{name}")


class TestDeadLetters:
    def test_are_the_failed_ones_the_latest_first_with_why(self, get: Get, factory: Factory) -> None:
        first, second = factory.finished(FAILED), factory.finished(FAILED, agent="sleep")
        factory.finished()
        factory.pending()
        Task.objects.filter(id=first).update(completed_at=timezone.now() + timedelta(seconds=1))
        html = get(DEAD)
        assert shown_ids(html) == {first, second}
        assert html.index(str(first)) < html.index(str(second))
        assert "<b>no_anatomy</b> there is nothing in it" in html
        assert "<summary>traceback</summary>" in html
        assert ">1/3</span>" in html
        assert shown_ids(get(DEAD, agent="sleep")) == {second}
        assert shown_ids(get(DEAD, ended="1h", q="agent:sleep")) == {second}
        assert shown_ids(get(DEAD, ended="2020-01-31")) == set()
        assert page(first) in html

    def test_need_as_many_queries_for_many_as_for_one(self, get: Get, factory: Factory) -> None:
        factory.finished(FAILED)
        with CaptureQueriesContext(connection) as one:
            get(DEAD)
        for _ in range(4):
            factory.finished(FAILED)
        with CaptureQueriesContext(connection) as many:
            get(DEAD)
        assert len(many) == len(one)

    def test_are_neither_counted_nor_sorted_as_a_whole(self, get: Get, factory: Factory) -> None:
        factory.finished(FAILED)
        with CaptureQueriesContext(connection) as captured:
            get(DEAD)
        queries = [query["sql"] for query in captured if '"tasks_app_task"."completed_at" DESC' in query["sql"]]
        assert len(queries) >= 2
        for sql in queries:
            assert "LIMIT" in sql
            with connection.cursor() as cursor:
                # Of a table this small it would sort all.
                cursor.execute("SET LOCAL enable_sort = off")
                cursor.execute(f"EXPLAIN {sql}")
                plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Scan Backward using task_ended_idx" in plan, plan
            assert "Presorted Key: tasks_app_task.completed_at" in plan

    def test_lead_on_past_what_is_counted(self, get: Get, factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(paginator, "COUNT_MAX", 2)
        monkeypatch.setattr(DeadLetterAdmin, "list_per_page", 1)
        # All end at the same instant: the id decides, and none is left out.
        ids = sorted((factory.finished(FAILED) for _ in range(5)), reverse=True)
        Task.objects.update(completed_at=timezone.now())
        seen: list[UUID] = []
        before = ""
        for _ in range(3):
            for number in ("1", "2"):
                html = get(DEAD, p=number, before=before)
                seen += shown_ids(html) - set(seen)
            before = unquote("".join(re.findall(r'href="\?before=([^"&]+)">older', html)))
        assert seen == ids

    @pytest.mark.parametrize("before", ["x", "x~y", "2026-01-01~y"])
    def test_a_place_that_is_none_shows_nothing(self, get: Get, factory: Factory, before: str) -> None:
        factory.finished(FAILED)
        assert shown_ids(get(DEAD, before=before)) == set()

    def test_run_again_with_the_count_confirmed_and_are_linked_both_ways(
        self, browser: Browser, get: Get, factory: Factory, bells: list[Ring]
    ) -> None:
        ids = [factory.finished(FAILED) for _ in range(2)]
        selected = {"action": "rerun_selected", "_selected_action": [str(task_id) for task_id in ids]}
        html = browser.post(f"{DEAD}?agent=echo", selected).content.decode()
        assert "Run 2 tasks again?" in html
        assert Task.objects.filter(rerun_of__isnull=False).count() == 0
        answer = browser.post(done("rerun"), hidden_fields(html), follow=True)
        assert answer.redirect_chain[0][0] == f"{DEAD}?agent=echo"
        assert "Made 2 new tasks" in answer.content.decode()
        made = Task.objects.get(rerun_of=ids[0])
        assert page(made.id) in answer.content.decode()
        assert page(made.id) in get(page(ids[0]))
        assert page(ids[0]) in get(page(made.id))
        assert {UUID(entry.object_id or "") for entry in LogEntry.objects.all()} == set(
            Task.objects.filter(rerun_of__in=ids).values_list("id", flat=True)
        )
        assert "2 tasks of these have been run again before." in browser.post(DEAD, selected).content.decode()

    def test_who_may_only_look_runs_nothing_again(self, viewer: Iterator[Browser], factory: Factory) -> None:
        looking, task_id = next(viewer), factory.finished(FAILED)
        html = looking.get(DEAD).content.decode()
        assert shown_ids(html) == {task_id}
        assert "rerun_selected" not in html
        assert looking.post(done("rerun"), {"ids": str(task_id)}).status_code == 403
        assert Task.objects.count() == 1

    def test_are_not_for_everybody(self, watcher: Browser) -> None:
        assert watcher.get(DEAD).status_code == 403

    def test_nothing_of_an_error_is_run(self, get: Get, factory: Factory) -> None:
        evil = "<script>alert('owned')</script>"
        error = {"code": evil, "message": evil}
        factory.finished(Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error=error, traceback=evil))
        assert evil not in get(DEAD)


class TestOneTask:
    def test_has_the_buttons_that_fit_it(self, get: Get, factory: Factory) -> None:
        names = ("cancel", "priority", "now", "later", "rerun")

        def offered(task_id: UUID) -> list[str]:
            html = get(page(task_id))
            return [name for name in names if f'href="{button(name, task_id)}"' in html]

        assert offered(factory.pending()) == ["cancel", "priority", "later"]
        later = factory.pending(run_after=timezone.now() + timedelta(hours=1))
        assert offered(later) == ["cancel", "priority", "now", "later"]
        assert offered(factory.claimed().task_id) == ["cancel"]
        assert offered(factory.finished()) == ["rerun"]

    def test_that_ended_runs_again_and_leads_to_the_new_one(self, browser: Browser, get: Get, factory: Factory) -> None:
        ended = factory.finished()
        html = get(button("rerun", ended))
        assert "Run 1 task again?" in html
        answer = browser.post(done("rerun"), hidden_fields(html))
        assert answer["Location"] == page(Task.objects.get(rerun_of=ended).id)

    def test_that_waits_gets_another_priority(self, browser: Browser, get: Get, factory: Factory) -> None:
        task_id = factory.pending()
        html = get(button("priority", task_id))
        answer = browser.post(done("priority"), {**hidden_fields(html), "priority": "0"}, follow=True)
        assert answer.redirect_chain[0][0] == page(task_id)
        assert Task.objects.get(id=task_id).priority == Priority.CRITICAL
        answer = browser.post(done("priority"), {**hidden_fields(html), "priority": "9"})
        assert 'role="alert"' in answer.content.decode()
        assert "Change the priority of 1 task?" in answer.content.decode()

    def test_that_waits_is_put_off_and_forward(self, browser: Browser, get: Get, factory: Factory) -> None:
        task_id = factory.pending()
        html = get(button("later", task_id))
        browser.post(done("later"), {**hidden_fields(html), "run_after": "2031-02-03T04:05"})
        assert str(Task.objects.get(id=task_id).run_after) == "2031-02-03 04:05:00+00:00"
        assert "its time is 2031-02-03 04:05:00 UTC" in get(page(task_id))
        assert 'role="alert"' in browser.post(done("later"), {"ids": str(task_id)}).content.decode()
        browser.post(done("now"), hidden_fields(get(button("now", task_id))))
        assert Task.objects.get(id=task_id).run_after <= timezone.now()

    @pytest.mark.parametrize("name", ["cancel", "priority", "now", "later", "rerun"])
    def test_changes_for_nobody_without_the_permission_nor_by_an_address_alone(
        self, browser: Browser, viewer: Iterator[Browser], factory: Factory, name: str
    ) -> None:
        task_id, looking = factory.pending(), next(viewer)
        fields = {"ids": str(task_id), "priority": "0", "run_after": "2031-02-03T04:05"}
        assert looking.get(button(name, task_id)).status_code == 403
        assert looking.post(done(name), fields).status_code == 403
        assert browser.get(done(name), fields).status_code == 405
        task = Task.objects.get(id=task_id)
        assert (task.status, task.priority) == (TaskStatus.PENDING, Priority.NORMAL)
        assert task.run_after <= timezone.now()

    def test_leads_back_to_this_site_only(self, browser: Browser, factory: Factory) -> None:
        fields = {"ids": str(factory.pending()), "priority": "0", "back": "https://elsewhere.example/"}
        assert browser.post(done("priority"), fields)["Location"] == page(fields["ids"])


@pytest.mark.parametrize(("url", "title"), [(DEAD, "Dead letters"), (LIST, "Tasks"), (page(UUID(int=1)), "Tasks")])
def test_the_sidebar_shows_one_place_at_a_time(rf: RequestFactory, operator: User, url: str, title: str) -> None:
    request = rf.get(url)
    request.user = operator
    items = [item for group in navigation(request) for item in group["items"]]
    assert [item["title"] for item in items if item["active"]] == [title]


def test_many_that_wait_get_another_priority_and_the_others_are_reported(browser: Browser, factory: Factory) -> None:
    waiting, runs = [factory.pending() for _ in range(2)], factory.claimed().task_id
    selected = {"action": "priority_selected", "_selected_action": [str(task_id) for task_id in (*waiting, runs)]}
    html = browser.post(LIST, selected).content.decode()
    assert "Change the priority of 2 tasks?" in html
    assert "1 task of the selection has started or ended already and stays as is." in html
    answer = browser.post(done("priority"), {**hidden_fields(html), "priority": "1"}, follow=True)
    assert "Changed the priority of 2 tasks. 1 task had started or ended already." in answer.content.decode()
    assert set(Task.objects.filter(priority=1).values_list("id", flat=True)) == set(waiting)
    assert LogEntry.objects.count() == 2


class TestThePageOfATask:
    def test_shows_what_an_attempt_used_and_why_it_ended(self, get: Get, factory: Factory) -> None:
        usage = Usage(peak_rss_bytes=123_000_000, cpu_s=4.2, disk_bytes=5_000)
        error = {"code": "out_of_memory", "message": "more than 100 MiB"}
        html = get(
            page(
                factory.finished(
                    Finish(status=TaskStatus.FAILED, outcome=Outcome.OUT_OF_MEMORY, error=error, usage=usage)
                )
            )
        )
        for text in ("out of memory", "<b>out_of_memory</b> more than 100 MiB", "123.0 MB", "4.2 s", "5.0 kB"):
            assert text in html
        assert "1 of 3 spent" in html

    def test_shows_checkpoints_and_says_so_in_the_timeline(self, get: Get, factory: Factory) -> None:
        claim = factory.claimed()
        found = {"half-way": {"done": [1, 2]}, "long": "x" * 90_000}
        records = tuple(CheckpointRecord(name=name, data=json.dumps(data)) for name, data in found.items())
        item = Write(task_id=claim.task_id, attempt_id=claim.attempt_id, records=records)
        assert engine.run(engine.write, [item])[0].accepted
        html = get(page(claim.task_id))
        assert "&quot;done&quot;: [1, 2]" in html
        assert "Only the beginning is shown." in html
        assert html.count("half-way") == 2
        assert "a2a-kind-checkpoint" in html
        assert len(html) < 300_000

    def test_shows_the_deadlines_that_run(self, get: Get, factory: Factory) -> None:
        assert "must start by" in get(page(factory.pending(start_deadline_s=60)))
        assert "times out" in get(page(factory.claimed(start_deadline_s=60).task_id))
        asks = Finish(status=TaskStatus.INPUT_REQUIRED, outcome=Outcome.INTERRUPTED, wait_s=60)
        assert "answer due by" in get(page(factory.finished(asks)))

    def test_says_all_that_a_task_waits_for(self, get: Get, factory: Factory) -> None:
        task_id = factory.pending()
        control.pause(Scope.AGENT, "echo")
        assert "waits: an operator paused agent echo; no worker of lane io is online" in get(page(task_id))
        assert "waits:" not in get(page(factory.claimed(agent="sleep").task_id))
