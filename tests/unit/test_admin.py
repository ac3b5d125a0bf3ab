"""The admin: what a person sees of tasks, and the few things he may do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import uuid_utils.compat
from a2a.types import Artifact as WireArtifact
from a2a.types import Message, Part, Role, TaskArtifactUpdateEvent
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from artifacts_app.models import Artifact
from tasks_app import engine, wakeups
from tasks_app.admin import lifecycle, looks, paginator, previews, search
from tasks_app.admin import page as task_page
from tasks_app.admin.tasks import TaskAdmin
from tasks_app.engine import ArtifactRecord, Chunk, Finish, Note
from tasks_app.models import ApiKey, Client, Outcome, Task
from tasks_app.status import TRANSITIONS, Lane, Priority, TaskStatus
from tests.factory import Factory, asks
from tests.unit.conftest import Get, hidden_fields, shown_ids

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf500f00038101"
    "80a4a5b0f00000000049454e44ae426082"
)
EVIL = "<script>alert('owned')</script>"
LIST = reverse("admin:tasks_app_task_changelist")
CANCEL = reverse("admin:tasks_app_task_cancel")


def page(task_id: object) -> str:
    return reverse("admin:tasks_app_task_change", args=[task_id])


def message(*parts: Part, role: Any = Role.ROLE_AGENT) -> bytes:
    return bytes(Message(message_id=str(uuid4()), role=role, parts=parts).SerializeToString())


def artifact(name: str, *chunks: tuple[str, bytes, str]) -> ArtifactRecord:
    event = TaskArtifactUpdateEvent(artifact=WireArtifact(artifact_id=name, name=name))
    return ArtifactRecord(
        artifact_id=name,
        name=name,
        event=event.SerializeToString(),
        chunks=tuple(Chunk(kind=kind, content=content, media_type=media) for kind, content, media in chunks),
    )


class TestTheList:
    def test_shows_each_task_newest_first_with_its_label(self, get: Get, factory: Factory) -> None:
        first, second = factory.pending(), factory.finished(priority=Priority.HIGH)
        html = get(LIST)
        assert html.index(str(second)) < html.index(str(first))
        assert "a2a-completed" in html
        assert "a2a-priority-high" in html
        assert ">1/3</span>" in html

    def test_never_counts_the_whole_table(self, get: Get, factory: Factory) -> None:
        factory.pending()
        with CaptureQueriesContext(connection) as captured:
            get(LIST)
        counts = [query["sql"] for query in captured if "COUNT(" in query["sql"] and "tasks_app_task" in query["sql"]]
        assert counts
        assert all(f"LIMIT {paginator.COUNT_MAX + 1}" in sql for sql in counts), counts

    def test_needs_as_many_queries_for_many_tasks_as_for_one(self, get: Get, factory: Factory) -> None:
        factory.pending()
        with CaptureQueriesContext(connection) as one:
            get(LIST)
        for _ in range(5):
            factory.pending()
        with CaptureQueriesContext(connection) as many:
            get(LIST)
        assert len(many) == len(one)

    def test_leads_on_past_what_it_counts(self, get: Get, factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(paginator, "COUNT_MAX", 2)
        monkeypatch.setattr(TaskAdmin, "list_per_page", 1)
        third, second, _newest = [factory.pending() for _ in range(4)][1:]
        assert "before=" not in get(LIST)
        html = get(LIST, p="2")
        assert "more than 2 tasks" in html
        assert f"before={second}" in html
        assert shown_ids(get(LIST, before=str(second))) == {third}

    @pytest.mark.parametrize(
        "params",
        [
            {"status__exact": "completed"},
            {"priority__exact": "0"},
            {"agent": "imaging"},
            {"lane__exact": "cpu"},
            {"created": "1h", "status__exact": "completed"},
            {"q": "state:completed agent:imaging"},
            {"q": "priority:critical lane:cpu"},
            {"q": "client:owner state:completed"},
            {"q": "context:talk-7"},
            {"q": "talk-7"},
            {"q": "imaging"},
        ],
    )
    def test_is_narrowed(self, get: Get, factory: Factory, params: dict[str, str]) -> None:
        wanted = factory.finished(
            agent="imaging",
            lane=Lane.CPU,
            priority=Priority.CRITICAL,
            context_id="talk-7",
        )
        factory.pending()
        assert shown_ids(get(LIST, **params)) == {wanted}

    def test_is_narrowed_to_a_client(self, get: Get, factory: Factory) -> None:
        other = Client.objects.create(name="other")
        factory.pending()
        theirs = Factory(other).pending()
        assert shown_ids(get(LIST, client__id__exact=str(other.pk))) == {theirs}
        assert shown_ids(get(LIST, q="client:other")) == {theirs}

    @pytest.mark.parametrize("query", ["state:nonsense", "priority:nonsense", "id:xyz", "created:x", "client:nobody"])
    def test_a_word_that_means_nothing_finds_nothing(self, get: Get, factory: Factory, query: str) -> None:
        factory.pending()
        assert shown_ids(get(LIST, q=query)) == set()

    @pytest.mark.parametrize("params", [{"before": "x"}, {"created": "x"}, {"created": "2020-01-31..2020-02-01"}])
    def test_a_filter_that_matches_nothing_shows_nothing(
        self, get: Get, factory: Factory, params: dict[str, str]
    ) -> None:
        factory.pending()
        assert shown_ids(get(LIST, **params)) == set()

    def test_is_searched_by_id_and_by_its_beginning(self, get: Get, factory: Factory) -> None:
        ids = [UUID(int=int(uuid_utils.compat.uuid7()) ^ (nth << 120)) for nth in (0, 1)]
        for task_id in ids:
            factory.pending(id=task_id)
        assert shown_ids(get(LIST, q=str(ids[0]))) == {ids[0]}
        assert shown_ids(get(LIST, q=str(ids[1])[:13])) == {ids[1]}
        assert shown_ids(get(LIST, q=ids[1].hex[:10].upper())) == {ids[1]}

    def test_gives_up_a_search_that_takes_too_long(
        self, browser: Browser, factory: Factory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        factory.pending()
        monkeypatch.setattr("tasks_app.admin.paginator.LIST_TIMEOUT_S", 0.02)
        slow = "id IN (SELECT id FROM tasks_app_task, pg_sleep(1))"
        monkeypatch.setattr(search, "query", lambda text: _raw(slow))
        answer = browser.get(LIST, {"q": "x"})
        assert answer.status_code == 302
        monkeypatch.undo()
        assert "Narrow it by time" in browser.get(answer["Location"]).content.decode()


class TestThePageOfATask:
    def test_shows_artifacts_for_looking_at(self, get: Get, factory: Factory) -> None:
        claim = factory.claimed(agent="imaging", parameters={"bins": 7}, metadata={"study": "s-1"})
        records = (
            Note(progress=0.4, message=message(Part(text="decoding image 1"))),
            artifact("preview", ("raw", PNG, "image/png")),
            artifact("report", ("data", json.dumps({"mean": [1, 2, 3]}).encode(), "application/json")),
            artifact("notes", ("text", b"two lines\nof text", "text/plain")),
            artifact("study", ("raw", b"DICM", "application/dicom")),
        )
        done = Finish(status=TaskStatus.COMPLETED, outcome=Outcome.COMPLETED, message=message(Part(text="all done")))
        assert factory.write(claim, *records, finish=done).accepted
        html = get(page(claim.task_id))
        image = Artifact.objects.get(name="preview")
        assert f'<img src="{content_url(image)}"' in html
        assert "&quot;mean&quot;: [1, 2, 3]" in html
        assert "two lines\nof text" in html
        assert "No preview of application/dicom" in html
        for text in (
            "decoding image 1",
            "all done",
            "&quot;bins&quot;: 7",
            "&quot;study&quot;: &quot;s-1&quot;",
            "hello",
        ):
            assert text in html
        assert len(re.findall(r'class="a2a-number"', html)) == Task.objects.get(id=claim.task_id).generation == 8

    def test_names_the_bytes_of_a_message_and_never_shows_them(self, get: Get, factory: Factory) -> None:
        secret = b"PATIENT^NAME" * 100
        parts = (Part(raw=secret, filename="scan.dcm", media_type="application/dicom"), Part(url="javascript:alert(1)"))
        html = get(page(factory.pending(message=message(*parts, role=Role.ROLE_USER))))
        assert "scan.dcm" in html
        assert "application/dicom · 1.2 kB" in html
        assert "PATIENT" not in html
        assert 'href="javascript:' not in html

    def test_says_why_it_failed_and_keeps_the_traceback_folded(self, get: Get, factory: Factory) -> None:
        failed = Finish(
            status=TaskStatus.FAILED,
            outcome=Outcome.FAILED,
            error={"code": "not_an_image", "message": "neither DICOM nor PNG"},
            traceback="Traceback (most recent call last): boom",
        )
        html = get(page(factory.finished(failed)))
        assert "not_an_image" in html
        assert "neither DICOM nor PNG" in html
        assert re.search(r"<details id=\"trace-1\"><summary>traceback</summary><pre[^>]*>Traceback", html)

    def test_shows_a_conversation_and_where_it_waited_for_its_client(self, get: Get, factory: Factory) -> None:
        task_id = factory.finished(asks())
        factory.deliver(task_id, "the left one")
        html = get(page(task_id))
        assert "the left one" in html
        changes = task_page._changes(Task.objects.get())
        assert [change.status.value for change in changes] == ["pending", "running", "input_required", "pending"]

    def test_says_who_cancelled_it(self, get: Get, factory: Factory) -> None:
        assert "cancelled by a test" in get(page(factory.in_state(TaskStatus.CANCELLED)))

    @pytest.mark.parametrize("status", list(TaskStatus))
    def test_is_there_in_every_state(self, get: Get, factory: Factory, status: TaskStatus) -> None:
        assert f'class="a2a-label a2a-{status}"' in get(page(factory.in_state(status)))

    def test_nothing_of_a_task_is_run(self, get: Get, factory: Factory) -> None:
        parts = (Part(text=EVIL), Part(raw=b"x", filename=EVIL, media_type=EVIL))
        claim = factory.claimed(
            message=message(*parts, role=Role.ROLE_USER),
            parameters={EVIL: EVIL},
            metadata={EVIL: EVIL},
            context_id=EVIL,
        )
        records = (
            Note(progress=0.5, message=message(Part(text=EVIL))),
            artifact(
                EVIL, ("text", EVIL.encode(), "text/html"), ("data", json.dumps(EVIL).encode(), "application/json")
            ),
            artifact("drawing", ("raw", f"<svg>{EVIL}</svg>".encode(), "image/svg+xml")),
        )
        error = {"code": EVIL, "message": EVIL}
        failed = Finish(status=TaskStatus.FAILED, outcome=Outcome.FAILED, error=error, traceback=EVIL)
        factory.write(claim, *records, finish=failed)
        for html in (get(page(claim.task_id)), get(LIST), get(reverse("admin:artifacts_app_artifact_changelist"))):
            assert EVIL not in html
        assert "&lt;script&gt;alert(&#x27;owned&#x27;)&lt;/script&gt;" in get(page(claim.task_id))
        for item in Artifact.objects.all():
            assert EVIL not in get(reverse("admin:artifacts_app_artifact_change", args=[item.id]))

    def test_is_bounded(self, get: Get, factory: Factory) -> None:
        claim = factory.claimed()
        long, deep = b"x" * 1_000_000, b"[" * 50_000
        factory.write(
            claim, artifact("long", ("text", long, "text/plain")), artifact("deep", ("data", deep, "application/json"))
        )
        for _ in range(3):
            factory.write(claim, *(Note(progress=0.5) for _ in range(100)))
        html = get(page(claim.task_id))
        assert len(html) < 300_000
        assert "Only the beginning is shown." in html
        assert "104 earlier events are not shown." in html

    def test_hides_artifacts_from_who_may_not_see_them(self, viewer: Iterator[Browser], factory: Factory) -> None:
        claim = factory.claimed()
        factory.write(claim, artifact("notes", ("text", b"private words", "text/plain")))
        html = next(viewer).get(page(claim.task_id)).content.decode()
        assert "private words" not in html
        assert "You may not see artifacts." in html

    def test_an_unknown_or_impossible_id_leads_to_the_index(self, browser: Browser) -> None:
        for nothing in (uuid4(), "nonsense"):
            assert browser.get(page(nothing)).status_code == 302


class TestTasksAreReadOnly:
    def test_nobody_adds_changes_or_deletes(self, browser: Browser, factory: Factory) -> None:
        task_id = factory.pending()
        assert browser.get(reverse("admin:tasks_app_task_add")).status_code == 403
        assert browser.post(page(task_id), {"status": "completed"}).status_code == 403
        assert browser.post(reverse("admin:tasks_app_task_delete", args=[task_id]), {"post": "yes"}).status_code == 403
        browser.post(LIST, {"action": "delete_selected", "_selected_action": str(task_id), "post": "yes"})
        assert Task.objects.get(id=task_id).status == TaskStatus.PENDING


class TestCancel:
    def test_one_is_asked_back_then_cancelled(
        self, browser: Browser, get: Get, factory: Factory, bells: list[wakeups.Ring]
    ) -> None:
        claim = factory.claimed()
        url = reverse("admin:tasks_app_task_cancel_task", args=[claim.task_id])
        assert url in get(page(claim.task_id))
        assert "Cancel 1 task?" in get(url)
        assert Task.objects.get(id=claim.task_id).status == TaskStatus.RUNNING
        answer = browser.post(CANCEL, {"ids": str(claim.task_id)}, follow=True)
        assert answer.redirect_chain[0][0] == page(claim.task_id)
        html = answer.content.decode()
        assert "Cancelled 1 task." in html
        assert "cancelled by admin operator" in html
        assert url not in html
        assert (wakeups.TASKS, f"!{claim.task_id}") in bells
        assert (wakeups.worker_channel("worker-1"), "") in bells

    def test_many_are_counted_back_and_those_that_ended_are_reported(
        self, browser: Browser, factory: Factory, bells: list[wakeups.Ring]
    ) -> None:
        open_ids, ended = [factory.pending(), factory.claimed().task_id], factory.finished()
        late = factory.pending()
        selected = [str(task_id) for task_id in (*open_ids, late, ended)]
        answer = browser.post(f"{LIST}?agent=echo", {"action": "cancel_selected", "_selected_action": selected})
        html = answer.content.decode()
        assert "Cancel 3 tasks?" in html
        assert "1 task of the selection has ended already" in html
        engine.run(engine.request_cancel, [late], by="somebody else")
        answer = browser.post(CANCEL, hidden_fields(html), follow=True)
        assert answer.redirect_chain[0][0] == f"{LIST}?agent=echo"
        assert "Cancelled 2 tasks. 2 tasks had ended already." in answer.content.decode()
        assert set(Task.objects.filter(status="cancelled").values_list("id", flat=True)) == {*open_ids, late}
        assert Task.objects.get(id=ended).status == TaskStatus.COMPLETED

    def test_nothing_is_cancelled_where_all_have_ended(
        self, browser: Browser, factory: Factory, bells: list[wakeups.Ring]
    ) -> None:
        ended = factory.finished()
        selected = {"action": "cancel_selected", "_selected_action": [str(ended)]}
        assert "Nothing was cancelled. 1 task had ended" in browser.post(LIST, selected, follow=True).content.decode()
        answer = browser.get(reverse("admin:tasks_app_task_cancel_task", args=[ended]), follow=True)
        assert "The task has ended already: it is completed." in answer.content.decode()
        assert "Nothing was cancelled." in browser.post(CANCEL, {"ids": str(ended)}, follow=True).content.decode()
        assert not bells

    def test_needs_the_permission_and_a_post(
        self, browser: Browser, viewer: Iterator[Browser], factory: Factory
    ) -> None:
        task_id, looking = factory.pending(), next(viewer)
        assert looking.post(CANCEL, {"ids": str(task_id)}).status_code == 403
        assert looking.get(reverse("admin:tasks_app_task_cancel_task", args=[task_id])).status_code == 403
        assert "cancel_selected" not in looking.get(LIST).content.decode()
        assert browser.get(CANCEL, {"ids": str(task_id)}).status_code == 405
        assert browser.post(CANCEL, {"ids": "x"}).status_code == 400
        assert Browser(enforce_csrf_checks=True).post(CANCEL, {"ids": str(task_id)}).status_code in (302, 403)
        assert Task.objects.get(id=task_id).status == TaskStatus.PENDING


class TestTheBytesOfAnArtifact:
    def test_an_image_comes_inline_and_can_do_nothing(self, browser: Browser, factory: Factory) -> None:
        answer = browser.get(content_url(made(factory, "image/png; x=1", PNG)))
        assert answer.content == PNG
        assert answer["Content-Type"] == "image/png"
        assert answer["Content-Disposition"].startswith("inline")
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"

    @pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "application/json", "application/pdf"])
    def test_anything_else_is_downloaded(self, browser: Browser, factory: Factory, media_type: str) -> None:
        answer = browser.get(content_url(made(factory, media_type, EVIL.encode())))
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Content-Disposition"].startswith("attachment")
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer["Content-Security-Policy"]

    def test_is_not_for_everybody(self, viewer: Iterator[Browser], browser: Browser, factory: Factory) -> None:
        url = content_url(made(factory, "image/png", PNG))
        answer = Browser().get(url)
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("admin:login"))
        assert next(viewer).get(url).status_code == 403
        assert browser.get(reverse("admin:artifacts_app_artifact_content", args=[uuid4(), 0])).status_code == 404

    def test_are_those_of_the_newest_attempt(self, browser: Browser, factory: Factory) -> None:
        claim = factory.claimed()
        for content in (b"first", b"second"):
            factory.write(claim, artifact("preview", ("raw", content, "image/png")))
        item = Artifact.objects.get()
        assert browser.get(content_url(item)).content == b"second"
        assert len(previews.shown([item])[0].parts) == 1

    def test_what_came_in_pieces_is_shown_whole_and_each_part_has_its_bytes(
        self, browser: Browser, factory: Factory
    ) -> None:
        claim = factory.claimed()
        first = artifact("log", ("raw", PNG, "image/png"))
        factory.write(claim, replace(first, last_chunk=False))
        link = ("url", b"https://example.org/b.png", "image/png")
        factory.write(claim, replace(artifact("log", link), append=True, parts_before=1, bytes_before=len(PNG)))
        item = Artifact.objects.get()
        shown = previews.shown([item])[0]
        assert [part.kind for part in shown.parts] == ["image", "text"]
        answers = [browser.get(part.url) for part in shown.parts]
        assert [answer.content for answer in answers] == [PNG, link[1]]
        assert [answer["Content-Type"] for answer in answers] == ["image/png", "application/octet-stream"]

    def test_the_list_leads_to_the_task(self, get: Get, factory: Factory) -> None:
        item = made(factory, "image/png", PNG)
        url = reverse("admin:artifacts_app_artifact_changelist")
        assert page(item.task_id) in get(url)
        assert str(item.id) in get(url, q=str(item.task_id))
        assert str(item.id) not in get(url, q=str(uuid4()))
        assert "nothing" not in get(url, q="not-an-id", created="1h")


class TestClientsAndKeys:
    def test_a_key_is_shown_exactly_once_and_works(self, browser: Browser, owner: Client) -> None:
        answer = browser.post(reverse("admin:tasks_app_apikey_add"), {"client": owner.pk}, follow=True)
        found = re.findall(r"a2a_[0-9a-f]{8}_[\w-]{43}", answer.content.decode())
        assert len(found) == 1
        key = ApiKey.objects.get()
        assert bytes(key.digest) == ApiKey.hash(found[0])
        assert key.client == owner
        for url in (answer.request["PATH_INFO"], reverse("admin:tasks_app_apikey_change", args=[key.pk])):
            html = browser.get(url).content.decode()
            assert found[0] not in html
            assert str(key) in html

    def test_the_expiry_is_kept(self, browser: Browser, owner: Client) -> None:
        fields = {"client": owner.pk, "expires_at_0": "2031-02-03", "expires_at_1": "04:05:06"}
        browser.post(reverse("admin:tasks_app_apikey_add"), fields)
        assert str(ApiKey.objects.get().expires_at) == "2031-02-03 04:05:06+00:00"

    def test_a_key_is_revoked_after_it_was_asked_back(self, browser: Browser, owner: Client) -> None:
        key, _ = ApiKey.issue(owner)
        url = reverse("admin:tasks_app_apikey_revoke", args=[key.pk])
        assert "There is no undo" in browser.get(url).content.decode()
        key.refresh_from_db()
        assert key.revoked_at is None
        assert "Revoked" in browser.post(url, follow=True).content.decode()
        key.refresh_from_db()
        assert key.revoked_at is not None
        assert url not in browser.get(reverse("admin:tasks_app_apikey_change", args=[key.pk])).content.decode()

    def test_a_key_has_a_name_and_scopes_that_are_shown(self, browser: Browser, get: Get, owner: Client) -> None:
        url = reverse("admin:tasks_app_apikey_add")
        wrong = browser.post(url, {"client": owner.pk, "scopes": "tasks:read,a b"})
        assert "Item 2 in the array did not validate" in wrong.content.decode()
        browser.post(url, {"client": owner.pk, "name": "dashboard", "scopes": "tasks:read,lab:cut"})
        key = ApiKey.objects.get()
        assert (key.name, key.scopes) == ("dashboard", ["tasks:read", "lab:cut"])
        html = get(reverse("admin:tasks_app_apikey_changelist"))
        assert "dashboard" in html
        assert "tasks:read, lab:cut" in html

    def test_a_key_is_rotated_after_it_was_asked_back(self, browser: Browser, owner: Client) -> None:
        key, _ = ApiKey.issue(owner, scopes=["tasks:read"])
        url = reverse("admin:tasks_app_apikey_rotate", args=[key.pk])
        assert "goes on for 24 hours" in browser.get(url).content.decode()
        assert ApiKey.objects.count() == 1
        html = browser.post(url, follow=True).content.decode()
        successor = ApiKey.objects.get(predecessor=key)
        found = re.findall(rf"a2a_{successor.prefix}_[\w-]{{43}}", html)
        assert bytes(successor.digest) == ApiKey.hash(found[0])
        assert url not in browser.get(reverse("admin:tasks_app_apikey_change", args=[key.pk])).content.decode()
        browser.post(url)
        assert ApiKey.objects.count() == 2

    def test_the_identity_of_a_clients_tokens_is_set_whole(self, browser: Browser, owner: Client) -> None:
        url = reverse("admin:tasks_app_client_change", args=[owner.pk])
        fields = {"name": "owner", "is_active": "on", "issuer": "https://login.example"}
        assert browser.post(url, fields).status_code == 200
        assert browser.post(url, {**fields, "subject": "alice"}).status_code == 302
        owner.refresh_from_db()
        assert (owner.issuer, owner.subject) == ("https://login.example", "alice")

    def test_the_open_mode_is_marked_on_every_page(self, get: Get, settings: Any) -> None:
        page = reverse("admin:tasks_app_apikey_changelist")
        assert "open mode" in get(page)
        settings.A2A_OPEN_MODE = False
        assert "open mode" not in get(page)

    def test_keys_and_clients_are_never_deleted(self, browser: Browser, owner: Client) -> None:
        key, _ = ApiKey.issue(owner)
        assert browser.post(reverse("admin:tasks_app_apikey_change", args=[key.pk]), {}).status_code == 403
        for name, pk in (("apikey", key.pk), ("client", owner.pk)):
            url = reverse(f"admin:tasks_app_{name}_delete", args=[pk])
            assert browser.post(url, {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    "name",
    [
        "index",
        "tasks_app_worker_changelist",
        "tasks_app_client_changelist",
        "tasks_app_client_add",
        "tasks_app_apikey_changelist",
        "auth_user_changelist",
        "auth_user_add",
        "auth_group_add",
        "tasks_app_schedule_changelist",
        "tasks_app_schedule_add",
        "tasks_app_fire_changelist",
        "django_celery_beat_periodictask_changelist",
        "django_celery_beat_periodictask_add",
        "django_celery_beat_crontabschedule_add",
        "django_celery_beat_clockedschedule_add",
        "django_celery_beat_intervalschedule_changelist",
    ],
)
def test_every_other_page_is_there(get: Get, name: str) -> None:
    get(reverse(f"admin:{name}"))


def test_every_allowed_move_has_a_line_in_the_diagram() -> None:
    for before, afters in TRANSITIONS.items():
        for after in afters:
            assert lifecycle._path((before, after)).startswith("M")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0263, "26 ms"), (3.25, "3.2 s"), (60, "1 min"), (125, "2 min 5 s"), (3600 + 180, "1 h 3 min"), (-1, "0 ms")],
)
def test_spans_read_well(seconds: float, text: str) -> None:
    assert looks.span(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(16, "16 B"), (39_206, "39.2 kB"), (999_999, "1.0 MB"), (10**13, "10.0 TB")]
)
def test_sizes_read_well(size_bytes: int, text: str) -> None:
    assert looks.size(size_bytes) == text


def test_a_bar_is_full_only_when_it_is_done() -> None:
    assert looks.percentage(0.999) == 99
    assert looks.percentage(0.29) == 29
    assert looks.percentage(1.0) == 100


def content_url(item: Artifact) -> str:
    return reverse("admin:artifacts_app_artifact_content", args=[item.id, 0])


def made(factory: Factory, media_type: str, content: bytes) -> Artifact:
    factory.write(factory.claimed(), artifact("it", ("raw", content, media_type)))
    return Artifact.objects.get()


def _raw(sql: str) -> Any:
    from django.db.models import BooleanField
    from django.db.models.expressions import RawSQL

    return RawSQL(sql, [], output_field=BooleanField())  # noqa: S611 (a constant)
