"""Who asks: keys, what is remembered of them, and for how long."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tasks_app import authentication
from tasks_app.authentication import Unauthenticated, identify, remembered
from tasks_app.models import ApiKey, Client

pytestmark = pytest.mark.django_db


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def test_a_key_names_its_client_wherever_it_comes_from(owner: Client) -> None:
    _, text = ApiKey.issue(owner)
    for peer in ("127.0.0.1", "10.0.0.1", None):
        caller = identify(bearer(text), peer)
        assert (caller.client_id, caller.name, caller.is_authenticated) == (owner.pk, "owner", True)


def test_keys_of_one_client_are_different_and_both_count(owner: Client) -> None:
    texts = {ApiKey.issue(owner)[1] for _ in range(20)}
    assert len(texts) == 20
    assert {identify(bearer(text), None).name for text in texts} == {"owner"}


def test_the_key_in_the_bearer_header_goes_before_the_other(owner: Client) -> None:
    _, text = ApiKey.issue(owner)
    assert identify({**bearer(text), "x-api-key": "wrong"}, None).name == "owner"
    assert identify({"authorization": "Basic abc", "x-api-key": text}, None).name == "owner"
    with pytest.raises(Unauthenticated):
        identify({**bearer("wrong"), "x-api-key": text}, None)


def test_what_is_remembered_is_forgotten_after_its_time(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    row, text = ApiKey.issue(owner)
    assert remembered(bearer(text), None) is None
    caller = identify(bearer(text), None)
    row.delete()
    assert remembered(bearer(text), None) == caller
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + authentication.REMEMBER_S + 0.1)
    assert remembered(bearer(text), None) is None
    with pytest.raises(Unauthenticated):
        identify(bearer(text), None)


def test_a_refusal_is_not_remembered_as_a_caller(owner: Client) -> None:
    with pytest.raises(Unauthenticated):
        identify(bearer("wrong"), "127.0.0.1")
    assert remembered(bearer("wrong"), "127.0.0.1") is None


def test_the_open_mode_remembers_by_the_address_and_no_key_equals_it(settings: Any) -> None:
    settings.A2A_OPEN_MODE = True
    local = identify({}, "127.0.0.1")
    assert remembered({}, "127.0.0.1") == local
    assert remembered({}, "10.0.0.1") is None
    for text in ("peer 127.0.0.1", "key peer 127.0.0.1", "127.0.0.1"):
        assert remembered({"x-api-key": text}, "10.0.0.1") is None
        assert remembered(bearer(text), "10.0.0.1") is None


def test_the_open_mode_is_closed_while_its_client_is_not_active(settings: Any) -> None:
    settings.A2A_OPEN_MODE = True
    client = Client.objects.get(id=identify({}, "127.0.0.1").client_id)
    client.is_active = False
    client.save()
    with pytest.raises(Unauthenticated, match="'local' of the open mode is not active"):
        identify({}, "127.0.0.1")


def test_what_is_remembered_does_not_grow_without_bounds(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = ApiKey.issue(owner)
    caller = identify(bearer(text), None)
    known = {bytes([n % 256, n // 256]): (0.0, caller) for n in range(10_001)}
    monkeypatch.setattr(authentication, "_known", known)
    identify(bearer(text), None)
    assert len(known) == 1


@pytest.mark.parametrize("peer", [None, "", "unix:", "10.0.0.1", "localhost", "127.0.0.1:80", "::ffff:8.8.8.8"])
def test_the_open_mode_is_closed_to_what_is_not_loopback(settings: Any, peer: str | None) -> None:
    settings.A2A_OPEN_MODE = True
    with pytest.raises(Unauthenticated, match="loopback only"):
        identify({}, peer)


def test_a_key_shows_its_prefix_only(owner: Client) -> None:
    row, text = ApiKey.issue(owner)
    assert str(row) == f"a2a_{row.prefix}_…"
    assert text.startswith(f"a2a_{row.prefix}_")
    assert len(text.split("_", 2)[2]) >= 43
