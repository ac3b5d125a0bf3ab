"""What operators see of notifications and do about them: in the admin, and by ``manage.py a2a``."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.test import Client as Browser
from django.urls import reverse
from standardwebhooks import Webhook

from tasks_app import engine
from tasks_app.models import Client, PushConfig, PushDelivery, WebhookSecret
from tasks_app.push import operate, outbox
from tasks_app.push.sealing import Unopenable, seal, unseal
from tasks_app.push.values import Attempt, NewPush
from tests.factory import Factory
from tests.unit.conftest import Get
from tests.unit.test_a2a_command import a2a

CONFIGS = reverse("admin:tasks_app_pushconfig_changelist")
DELIVERIES = reverse("admin:tasks_app_pushdelivery_changelist")
SECRET_PATH = "T0000/hush"


@pytest.fixture
def dead(factory: Factory) -> PushConfig:
    """A webhook that took the first of three events, and then failed for good."""
    url = f"https://hooks.example/{SECRET_PATH}"
    push = NewPush(config_id="mine", named=True, url=url, host="hooks.example:443", token=seal(b"t0ken"))
    factory.finished(push=push)
    (held,) = engine.run(outbox.claim, limit=1, per_host=1, per_failing_host=1, lease_s=60.0)
    taken = Attempt(generation=1, number=1, duration_s=0.2, status_code=200)
    assert engine.run(outbox.advance, held, taken, lease_s=60.0)
    failed = Attempt(generation=2, number=1, duration_s=0.3, status_code=503, error="answered 503")
    engine.run(outbox.fail, held, failed, wait_s=0.0, dead=True)
    return PushConfig.objects.get()


def page(name: str, pk: UUID | int) -> str:
    return reverse(f"admin:tasks_app_{name}", args=[pk])


def test_the_lists_show_what_went_where_and_what_went_wrong(get: Get, dead: PushConfig) -> None:
    html = get(CONFIGS)
    for text in ("mine", "hooks.example:443", "answered 503", "1 of 3 events", "dead"):
        assert text in html
    html = get(DELIVERIES)
    assert re.findall(r">(200|503)<", html) == ["503", "200"]
    assert "hooks.example" in get(DELIVERIES, q=str(dead.task_id))
    assert "hooks.example" not in get(DELIVERIES, q=str(uuid4()))
    assert "mine" in get(CONFIGS, q="hooks.")
    assert "mine" not in get(CONFIGS, q="other.")


def test_no_page_shows_a_secret_or_the_path_that_may_be_one(get: Get, dead: PushConfig) -> None:
    delivery = PushDelivery.objects.latest("id")
    for url in (CONFIGS, DELIVERIES, page("pushconfig_change", dead.pk), page("pushdelivery_change", delivery.pk)):
        html = get(url)
        assert SECRET_PATH not in html
        assert "t0ken" not in html
        assert "gAAAA" not in html


def test_a_dead_one_is_resumed_after_it_was_asked_back(browser: Browser, get: Get, dead: PushConfig) -> None:
    url = page("pushconfig_resume_one", dead.pk)
    assert url in get(page("pushconfig_change", dead.pk))
    assert "Resume hooks.example:443" in get(url)
    assert PushConfig.objects.get().state == "dead"
    browser.post(url)
    dead.refresh_from_db()
    assert (dead.state, dead.failures, dead.delivered) == ("active", 0, 1)
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Resumed."]
    assert url not in get(page("pushconfig_change", dead.pk))


def test_many_are_resumed_from_the_list(browser: Browser, dead: PushConfig) -> None:
    browser.post(CONFIGS, {"action": "resume_selected", "_selected_action": [str(dead.pk)]})
    assert PushConfig.objects.get().state == "active"


def test_an_event_is_sent_again_after_it_was_asked_back(browser: Browser, get: Get, dead: PushConfig) -> None:
    first = PushDelivery.objects.get(generation=1)
    url = page("pushdelivery_resend", first.pk)
    assert "sent once more" in get(url)
    browser.post(url)
    dead.refresh_from_db()
    assert (dead.state, dead.delivered) == ("active", 0)
    dead.delete()
    assert "The webhook is gone" in browser.post(url, follow=True).content.decode()


def test_who_may_only_look_changes_nothing(watcher: Browser, dead: PushConfig) -> None:
    delivery = PushDelivery.objects.latest("id")
    for url in (page("pushconfig_resume_one", dead.pk), page("pushdelivery_resend", delivery.pk)):
        assert watcher.post(url).status_code == 403
    assert watcher.post(page("client_webhook_secret", Client.objects.get(name="owner").pk)).status_code == 403
    assert PushConfig.objects.get().state == "dead"
    assert not WebhookSecret.objects.exists()


def test_nobody_adds_changes_or_deletes_one(browser: Browser, dead: PushConfig) -> None:
    assert browser.post(page("pushconfig_change", dead.pk), {}).status_code == 403
    assert browser.post(page("pushconfig_delete", dead.pk), {"post": "yes"}).status_code == 403
    assert browser.get(reverse("admin:tasks_app_pushconfig_add")).status_code == 403


def test_a_webhook_secret_is_shown_exactly_once_and_works(browser: Browser, get: Get, owner: Client) -> None:
    url = page("client_webhook_secret", owner.pk)
    assert "for a day with the one before" in get(url)
    html = browser.post(url, follow=True).content.decode()
    (text,) = re.findall(r"whsec_[\w+/=]+", html)
    stored = unseal(bytes(WebhookSecret.objects.get().secret))
    assert Webhook(text)._whsecret == stored
    assert text not in get(page("client_change", owner.pk))


def test_the_secrets_before_the_newest_hold_for_a_day(owner: Client) -> None:
    operate.issue_secret("owner")
    operate.issue_secret("owner")
    old, new = WebhookSecret.objects.order_by("created_at")
    assert new.expires_at is None
    assert old.expires_at is not None
    operate.issue_secret("owner")
    old.refresh_from_db()
    assert (old.expires_at - new.created_at).total_seconds() == pytest.approx(86_400.0)


def test_all_secrets_are_sealed_anew_with_the_first_key(dead: PushConfig, settings: Any) -> None:
    operate.issue_secret("owner")
    signing = unseal(bytes(WebhookSecret.objects.get().secret))
    settings.A2A_SECRET_KEYS = [Fernet.generate_key().decode()]
    assert a2a("reseal") == (0, ["sealed 2 secrets anew"])
    settings.SECRET_KEY = "another"
    assert unseal(bytes(PushConfig.objects.get().token or b"")) == b"t0ken"
    assert unseal(bytes(WebhookSecret.objects.get().secret)) == signing
    settings.A2A_SECRET_KEYS = []
    with pytest.raises(Unopenable):
        operate.reseal_all()
    assert a2a("reseal")[0] == 1


def test_the_command_lists_and_resumes_the_dead(dead: PushConfig) -> None:
    code, said = a2a("push-resume", "--list")
    assert code == 0
    assert said[1].split()[:4] == [str(dead.id), str(dead.task_id), "hooks.example:443", "1"]
    assert PushConfig.objects.get().state == "dead"
    assert a2a("push-resume", uuid4()) == (1, ["resumed 0 of 1: the others are not dead or are unknown"])
    assert a2a("push-resume") == (0, [f"resumed {dead.id}"])
    assert a2a("push-resume")[0] == 1


def test_the_command_issues_a_secret(owner: Client) -> None:
    code, said = a2a("webhook-secret", "owner")
    assert (code, said[0][:6], len(said)) == (0, "whsec_", 1)
    assert a2a("webhook-secret", "nobody") == (1, ["no client 'nobody'; there are: owner"])
