"""Who asks: keys, what is remembered of them, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, close_old_connections, connection, transaction
from django.utils import timezone

from tasks_app import authentication, tokens
from tasks_app.agents import AgentSpec, Skill, UnknownSkill
from tasks_app.authentication import Caller, Forbidden, Unauthenticated, check_scopes, identify, remembered
from tasks_app.models import ApiKey, Client
from tasks_app.status import Lane
from tests.issuers import ISSUER, Issuer

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


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_key_says_what_it_is_good_for_and_one_that_says_nothing_is_good_for_all(owner: Client) -> None:
    _, narrow = ApiKey.issue(owner, scopes=["tasks:read"], name="dashboard")
    _, wide = ApiKey.issue(owner)
    assert identify(bearer(narrow), None).scopes == frozenset({"tasks:read"})
    assert identify(bearer(wide), None).scopes is None


def test_it_is_written_down_once_a_minute_that_a_key_was_used(owner: Client) -> None:
    row, text = ApiKey.issue(owner)
    identify(bearer(text), None)
    row.refresh_from_db()
    first = row.last_used_at
    assert first is not None
    authentication.forget()
    identify(bearer(text), None)
    row.refresh_from_db()
    assert row.last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    authentication.forget()
    identify(bearer(text), None)
    row.refresh_from_db()
    assert row.last_used_at is not None
    assert row.last_used_at >= first


def test_what_is_remembered_ends_with_its_key(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = ApiKey.issue(owner, expires_at=timezone.now() + timedelta(seconds=2))
    identify(bearer(text), None)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2.1)
    assert remembered(bearer(text), None) is None


def test_a_rotated_key_counts_until_its_grace_is_over(owner: Client) -> None:
    old, old_text = ApiKey.issue(
        owner, name="ci", scopes=["tasks:read"], expires_at=timezone.now() + timedelta(days=30)
    )
    issued = old.rotate(grace=timedelta(hours=1))
    assert issued is not None
    new, new_text = issued
    for text in (old_text, new_text):
        assert identify(bearer(text), None) == Caller(owner.pk, "owner", None, None, frozenset({"tasks:read"}))
    old.refresh_from_db()
    now = timezone.now()
    assert old.expires_at is not None
    assert new.expires_at is not None
    assert timedelta(minutes=59) < old.expires_at - now <= timedelta(hours=1)
    assert timedelta(days=29, hours=23) < new.expires_at - now <= timedelta(days=30)
    assert (new.name, new.predecessor) == ("ci", old)
    authentication.forget()
    ApiKey.objects.filter(pk=old.pk).update(expires_at=now)
    with pytest.raises(Unauthenticated):
        identify(bearer(old_text), None)
    assert identify(bearer(new_text), None)


def test_rotation_never_gives_a_key_more_time_than_it_had(owner: Client) -> None:
    soon = timezone.now() + timedelta(minutes=5)
    old, _ = ApiKey.issue(owner, expires_at=soon)
    assert old.rotate(grace=timedelta(days=1)) is not None
    old.refresh_from_db()
    assert old.expires_at == soon


def test_only_a_key_in_use_is_rotated_and_only_once(owner: Client) -> None:
    once, _ = ApiKey.issue(owner)
    assert once.rotate() is not None
    assert once.rotate() is None
    revoked, _ = ApiKey.issue(owner)
    assert revoked.revoke()
    assert not revoked.revoke()
    assert revoked.rotate() is None
    expired, _ = ApiKey.issue(owner, expires_at=timezone.now())
    assert expired.rotate() is None


@pytest.mark.django_db(transaction=True)
def test_two_that_rotate_a_key_at_once_make_one_successor(owner: Client) -> None:
    row, _ = ApiKey.issue(owner)
    start, made = threading.Barrier(2), []

    def rotate() -> None:
        start.wait()
        made.append(row.rotate())
        connection.close()

    threads = [threading.Thread(target=rotate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(issued is None for issued in made) == [False, True]
    assert ApiKey.objects.count() == 2


# Tokens ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def issuer(settings: Any) -> Iterator[Issuer]:
    with Issuer().serving() as made:
        settings.A2A_JWT_ISSUERS = made.setting()
        yield made


def test_a_token_belongs_to_a_client_that_is_made_when_it_is_first_seen(issuer: Issuer) -> None:
    caller = identify(bearer(issuer.token(scope="tasks:read")), "10.0.0.1")
    client = Client.objects.get(issuer=ISSUER, subject="alice")
    assert (caller.client_id, caller.name, caller.scopes) == (client.pk, "login:alice", frozenset({"tasks:read"}))
    again = identify(bearer(issuer.token()), None)
    assert (again.client_id, again.scopes) == (client.pk, frozenset())
    assert identify(bearer(issuer.token(sub="bob")), None).client_id != client.pk
    client.max_queued = 3
    client.save()
    authentication.forget()
    assert identify(bearer(issuer.token()), None).max_queued == 3


def test_keys_go_on_beside_tokens_and_each_is_known_by_how_it_begins(issuer: Issuer, owner: Client) -> None:
    _, text = ApiKey.issue(owner)
    assert identify(bearer(text), None).name == "owner"
    assert identify({"x-api-key": text}, None).name == "owner"
    with pytest.raises(Unauthenticated, match="API key is unknown"):
        identify({"x-api-key": issuer.token()}, None)


def test_a_client_that_is_called_like_the_token_is_another_one(issuer: Issuer) -> None:
    named = Client.objects.create(name="login:alice")
    caller = identify(bearer(issuer.token()), None)
    assert caller.client_id != named.pk
    assert caller.name.startswith("login:alice~")
    long = identify(bearer(issuer.token(sub="x" * 255)), None)
    assert len(long.name) <= 100
    assert long.client_id == Client.objects.get(subject="x" * 255).pk


def test_where_clients_are_not_made_only_those_that_were_made_before_may_come(issuer: Issuer, settings: Any) -> None:
    settings.A2A_JWT_ISSUERS = issuer.setting(create_clients=False)
    with pytest.raises(Unauthenticated, match="not known here"):
        identify(bearer(issuer.token()), None)
    assert not Client.objects.exists()
    Client.objects.create(name="Alice", issuer=ISSUER, subject="alice")
    assert identify(bearer(issuer.token()), None).name == "Alice"


def test_an_inactive_client_is_refused_whatever_its_token_says(issuer: Issuer) -> None:
    Client.objects.create(name="Alice", issuer=ISSUER, subject="alice", is_active=False)
    with pytest.raises(Unauthenticated, match="not active"):
        identify(bearer(issuer.token()), None)


def test_an_identity_is_one_clients_and_never_half_of_one(db: None) -> None:
    Client.objects.create(name="a", issuer=ISSUER, subject="s")
    for fields in ({"issuer": ISSUER, "subject": "s"}, {"issuer": ISSUER}, {"subject": "s"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Client.objects.create(name="b", **fields)
    Client.objects.create(name="b")
    Client.objects.create(name="c")


@pytest.mark.django_db(transaction=True)
def test_first_tokens_that_come_together_make_one_client(issuer: Issuer) -> None:
    token, seen, start = issuer.token(), [], threading.Barrier(6)

    def ask() -> None:
        close_old_connections()
        start.wait()
        seen.append(identify(bearer(token), None).client_id)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6
    assert len(set(seen)) == Client.objects.count() == 1


def test_a_remembered_token_is_not_checked_again_and_never_outlives_itself(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token(exp=int(time.time()) + 3)
    caller = identify(bearer(token), None)
    issuer.answer = (500, b"")
    tokens.forget()
    assert remembered(bearer(token), None) == caller
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3.1)
    assert remembered(bearer(token), None) is None


def test_a_token_within_the_leeway_is_remembered_not_at_all(issuer: Issuer) -> None:
    token = issuer.token(exp=int(time.time()) - 5)
    assert identify(bearer(token), None)
    assert remembered(bearer(token), None) is None


def test_a_refusal_says_in_its_challenge_what_was_wrong_with_the_token(issuer: Issuer) -> None:
    """RFC 6750, section 3.1: an error where a credential was sent, and none where there was none."""
    with pytest.raises(Unauthenticated) as caught:
        identify(bearer(issuer.token(exp=1)), None)
    said = caught.value.challenge
    assert said == 'Bearer realm="a2a", error="invalid_token", error_description="the token has expired"'
    with pytest.raises(Unauthenticated) as caught:
        identify({}, "10.0.0.1")
    assert caught.value.challenge == 'Bearer realm="a2a"'


# Scopes ---------------------------------------------------------------------------------------------------------------

SPEC = AgentSpec(
    name="lab",
    handler=lambda ctx: None,
    lane=Lane.IO,
    description="A laboratory.",
    skills=(
        Skill(id="look", name="Look", description="Looks."),
        Skill(id="cut", name="Cut", description="Cuts.", scopes=("lab:cut",)),
    ),
    extended_skills=(Skill(id="burn", name="Burn", description="Burns.", scopes=("lab:cut", "lab:burn")),),
)


def lacks(held: set[str], *asked: Any, write: bool) -> set[str]:
    """What is missing; nothing if it may be done."""
    try:
        check_scopes(Caller(1, "a", scopes=frozenset(held)), *asked, write=write)
    except Forbidden as error:
        return set(error.needed - held)
    return set()


def test_looking_and_changing_are_two_scopes_and_neither_is_the_other(owner: Client) -> None:
    assert lacks({"tasks:read"}, write=False) == set()
    assert lacks({"tasks:read"}, write=True) == {"tasks:write"}
    assert lacks({"tasks:write"}, write=False) == {"tasks:read"}
    assert lacks(set(), write=False) == {"tasks:read"}
    check_scopes(Caller(1, "all"), SPEC, "burn", write=True)


def test_a_skill_needs_its_scopes_and_no_skill_those_of_all() -> None:
    assert lacks({"tasks:write"}, SPEC, "look", write=True) == set()
    assert lacks({"tasks:write"}, SPEC, "cut", write=True) == {"lab:cut"}
    assert lacks({"tasks:write", "lab:cut"}, SPEC, "burn", write=True) == {"lab:burn"}
    assert lacks({"tasks:write", "lab:cut"}, SPEC, "", write=True) == {"lab:burn"}
    assert lacks({"tasks:write", "lab:cut", "lab:burn"}, SPEC, "", write=True) == set()
    assert lacks({"lab:cut", "lab:burn"}, SPEC, "", write=True) == {"tasks:write"}


def test_a_skill_that_is_not_there_is_told_from_one_that_is_not_allowed() -> None:
    with pytest.raises(UnknownSkill, match=r"no skill 'dig'; there are: look, cut$"):
        lacks(set(), SPEC, "dig", write=True)
    bare = AgentSpec(name="bare", handler=lambda ctx: None, lane=Lane.IO, description="Has none.")
    assert bare.scopes_for("bare") == frozenset()


def test_a_refusal_names_all_that_the_request_needs() -> None:
    with pytest.raises(Forbidden) as caught:
        check_scopes(Caller(1, "a", scopes=frozenset({"lab:cut"})), SPEC, "cut", write=True)
    said = 'Bearer realm="a2a", error="insufficient_scope", scope="lab:cut tasks:write"'
    assert caught.value.headers == {"WWW-Authenticate": said}
    assert str(caught.value) == "the credential lacks tasks:write"


# The open mode --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(authentication.FORWARDED))
def test_the_open_mode_is_closed_to_what_comes_through_a_proxy_on_this_machine(settings: Any, name: str) -> None:
    settings.A2A_OPEN_MODE = True
    assert identify({}, "127.0.0.1").scopes is None
    assert remembered({name: "x"}, "127.0.0.1") is None
    with pytest.raises(Unauthenticated, match="not through a proxy"):
        identify({name: "x"}, "127.0.0.1")
