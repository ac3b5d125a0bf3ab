"""The admin's controls: queues, limits, breakers, clients, workers; each asked back, permitted, and put on record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tasks_app.models import Breaker, Client, QueueControl, Worker
from tasks_app.wakeups import DISPATCH, LOOK, Ring
from tests.factory import Factory
from tests.unit.conftest import Get

QUEUES = reverse("admin:tasks_app_queuecontrol_changelist")
BREAKERS = reverse("admin:tasks_app_breaker_changelist")
CLIENTS = reverse("admin:tasks_app_client_changelist")


def act(name: str, scope: str, of: str) -> str:
    return reverse(f"admin:tasks_app_queuecontrol_{name}", args=[scope, of])


def logged() -> list[str]:
    return [entry.change_message for entry in LogEntry.objects.order_by("id")]


class TestQueues:
    def test_every_lane_queue_and_agent_is_there_with_its_figures(self, get: Get, factory: Factory) -> None:
        factory.claimed(agent="sleep")
        factory.pending()
        html = get(QUEUES)
        for name in ("cpu", "io", "a2a.cpu.critical", "a2a.io.low", "echo", "imaging"):
            assert f">{name}<" in html
        assert 'data-live="agent-echo-waiting">1<' in html
        assert 'data-live="agent-sleep-running">1<' in html

    def test_it_needs_as_many_queries_for_many_tasks_as_for_none(self, get: Get, factory: Factory) -> None:
        with CaptureQueriesContext(connection) as none:
            get(QUEUES)
        for agent in ("echo", "sleep", "imaging"):
            factory.pending(agent=agent)
        with CaptureQueriesContext(connection) as many:
            get(QUEUES)
        assert len(many) == len(none)

    @pytest.mark.parametrize(("scope", "name"), [("lane", "cpu"), ("queue", "a2a.io.low"), ("agent", "echo")])
    def test_one_is_paused_and_resumed_after_it_was_asked_back(
        self, browser: Browser, get: Get, bells: list[Ring], scope: str, name: str
    ) -> None:
        url = act("pause", scope, name)
        assert url in get(QUEUES)
        assert "What runs is finished" in get(url)
        assert not QueueControl.objects.exists()
        html = browser.post(url, follow=True).content.decode()
        assert f"Paused {scope} {name}." in html
        assert QueueControl.objects.get().paused_at is not None
        assert (bells, url in html, act("resume", scope, name) in html) == ([(DISPATCH, LOOK)], False, True)
        assert "stood so before" in browser.post(url, follow=True).content.decode()
        browser.post(act("resume", scope, name))
        assert QueueControl.objects.get().paused_at is None
        assert logged() == [f"Paused {scope} {name}.", f"Resumed {scope} {name}."]

    def test_limits_are_set_and_taken_away(self, browser: Browser, get: Get, bells: list[Ring]) -> None:
        url = act("limits", "agent", "echo")
        browser.post(url, {"max_running": "7", "dispatch_rate_per_s": "2.5"})
        row = QueueControl.objects.get(scope="agent", name="echo")
        assert (row.max_running, row.dispatch_rate_per_s) == (7, 2.5)
        assert bells == [(DISPATCH, LOOK)]
        assert 'value="7"' in get(url)
        assert "2.5/s" in get(QUEUES)
        browser.post(url, {"max_running": "", "dispatch_rate_per_s": ""})
        row.refresh_from_db()
        assert (row.max_running, row.dispatch_rate_per_s) == (None, None)

    @pytest.mark.parametrize("fields", [{"max_running": "0"}, {"max_running": "x"}, {"dispatch_rate_per_s": "-1"}])
    def test_a_limit_that_is_none_is_refused(self, browser: Browser, fields: dict[str, str]) -> None:
        answer = browser.post(act("limits", "agent", "echo"), fields)
        assert 'role="alert"' in answer.content.decode()
        assert not QueueControl.objects.exists()

    @pytest.mark.parametrize(
        "url",
        [
            act("pause", "agent", "nobody"),
            act("pause", "client", "owner"),
            act("resume", "planet", "x"),
            act("limits", "queue", "a2a.io.low"),
        ],
    )
    def test_what_there_is_not_cannot_be_changed(self, browser: Browser, url: str) -> None:
        assert browser.post(url).status_code == 404

    def test_who_may_only_look_is_offered_and_allowed_nothing(self, watcher: Browser) -> None:
        html = watcher.get(QUEUES).content.decode()
        assert ">a2a.io.low<" in html
        for name in ("pause", "resume", "limits"):
            assert act(name, "lane", "io") not in html
            assert watcher.post(act(name, "lane", "io")).status_code == 403
        assert not QueueControl.objects.exists()

    def test_who_may_not_look_sees_nothing(self, viewer: Iterator[Browser]) -> None:
        assert next(viewer).get(QUEUES).status_code == 403

    def test_an_address_that_comes_from_elsewhere_changes_nothing(self, operator: Any, plain_static: None) -> None:
        strict = Browser(enforce_csrf_checks=True)
        strict.force_login(operator)
        assert strict.post(act("pause", "lane", "io")).status_code == 403
        assert not QueueControl.objects.exists()


class TestBreakers:
    @pytest.fixture
    def breaker(self, db: None) -> Breaker:
        now = timezone.now()
        return Breaker.objects.create(
            agent="echo", state="open", changed_at=now, retry_at=now, reason="5 attempts failed within 60 s"
        )

    def test_an_open_one_is_listed_and_closed_after_it_was_asked_back(
        self, browser: Browser, get: Get, breaker: Breaker, bells: list[Ring]
    ) -> None:
        assert "5 attempts failed within 60 s" in get(BREAKERS)
        page = reverse("admin:tasks_app_breaker_change", args=["echo"])
        url = reverse("admin:tasks_app_breaker_close_now", args=["echo"])
        assert url in get(page)
        assert "the failures so far are forgotten" in get(url)
        assert "The circuit of echo is closed." in browser.post(url, follow=True).content.decode()
        breaker.refresh_from_db()
        assert (breaker.state, breaker.reason) == ("closed", "closed by admin operator")
        assert (bells, logged()) == ([(DISPATCH, LOOK)], ["Closed."])
        assert url not in get(page)
        assert "was closed already" in browser.post(url, follow=True).content.decode()

    def test_nobody_else_closes_or_changes_it(self, browser: Browser, watcher: Browser, breaker: Breaker) -> None:
        assert watcher.post(reverse("admin:tasks_app_breaker_close_now", args=["echo"])).status_code == 403
        assert browser.post(reverse("admin:tasks_app_breaker_change", args=["echo"]), {}).status_code == 403
        breaker.refresh_from_db()
        assert breaker.state == "open"


class TestClients:
    def test_limits_are_set_on_the_page_and_shown_in_the_list(
        self, browser: Browser, get: Get, owner: Client, bells: list[Ring]
    ) -> None:
        url = reverse("admin:tasks_app_client_change", args=[owner.pk])
        fields = {"name": "owner", "is_active": "on", "max_running": "41", "max_queued": "", "submit_rate_per_s": "7.5"}
        assert browser.post(url, fields).status_code == 302
        owner.refresh_from_db()
        assert (owner.max_running, owner.max_queued, owner.submit_rate_per_s) == (41, None, 7.5)
        assert bells == [(DISPATCH, LOOK)]
        assert ">41<" in get(CLIENTS)
        answer = browser.post(url, {**fields, "submit_rate_per_s": "0"})
        assert answer.status_code == 200
        owner.refresh_from_db()
        assert owner.submit_rate_per_s == 7.5

    def test_a_form_that_is_older_than_a_pause_does_not_end_it(
        self, browser: Browser, owner: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tasks_app.admin.clients import ClientAdmin

        saves = ClientAdmin.save_model

        def paused_meanwhile(self: Any, request: Any, obj: Client, form: Any, change: bool) -> None:
            Client.objects.filter(pk=obj.pk).update(paused_at=timezone.now())
            saves(self, request, obj, form, change)

        monkeypatch.setattr(ClientAdmin, "save_model", paused_meanwhile)
        url = reverse("admin:tasks_app_client_change", args=[owner.pk])
        browser.post(url, {"name": "owner", "is_active": "on", "max_running": "3"})
        owner.refresh_from_db()
        assert owner.paused_at is not None
        assert owner.max_running == 3

    def test_one_is_paused_and_resumed_after_it_was_asked_back(
        self, browser: Browser, get: Get, owner: Client, factory: Factory, bells: list[Ring]
    ) -> None:
        factory.pending()
        factory.claimed()
        page = reverse("admin:tasks_app_client_change", args=[owner.pk])
        pause, resume = (reverse(f"admin:tasks_app_client_{name}", args=[owner.pk]) for name in ("pause", "resume"))
        assert pause in get(CLIENTS)
        assert pause in get(page)
        assert "what it submits waits" in get(pause)
        assert "Paused owner." in browser.post(pause, follow=True).content.decode()
        owner.refresh_from_db()
        assert owner.paused_at is not None
        assert (pause in get(page), resume in get(page), resume in get(CLIENTS)) == (False, True, True)
        browser.post(resume)
        owner.refresh_from_db()
        assert owner.paused_at is None
        assert bells == [(DISPATCH, LOOK)] * 2
        assert logged() == ["Paused.", "Resumed."]

    def test_who_may_only_look_is_offered_and_allowed_nothing(self, watcher: Browser, owner: Client) -> None:
        url = reverse("admin:tasks_app_client_pause", args=[owner.pk])
        assert url not in watcher.get(CLIENTS).content.decode()
        assert watcher.post(url).status_code == 403


class TestWorkers:
    def test_one_shows_what_it_has_and_what_it_runs(self, get: Get, factory: Factory) -> None:
        now = timezone.now()
        Worker.objects.create(
            name="worker-1",
            lane="io",
            hostname="host",
            pid=7,
            slots=8,
            agents=["a", "b", "c", "d", "echo"],
            memory_mb=2048,
            cores=2,
            started_at=now,
            heartbeat_at=now,
        )
        claim = factory.claimed()
        html = get(reverse("admin:tasks_app_worker_changelist"))
        assert "1 of 8" in html
        assert "2.0 GiB, 2 cores" in html
        assert "a, b, c, d and 1 more" in html
        html = get(reverse("admin:tasks_app_worker_change", args=["worker-1"]))
        assert reverse("admin:tasks_app_task_change", args=[claim.task_id]) in html
        assert "a2a-running" in html

    def test_one_that_is_gone_leads_to_the_index(self, browser: Browser) -> None:
        assert browser.get(reverse("admin:tasks_app_worker_change", args=["nobody"])).status_code == 302
