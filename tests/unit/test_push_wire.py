"""What a client may ask for as a webhook, and what it is shown (A2A 1.0, sections 3.1.7, 4.3.1, 13.2)."""

from __future__ import annotations

from uuid import uuid4

import pytest
from a2a.types import AuthenticationInfo, SendMessageConfiguration, TaskPushNotificationConfig

from tasks_app.a2a.errors import InvalidParamsError, violations
from tasks_app.push import operations, wire
from tasks_app.push.guard import Guard, resolve
from tasks_app.push.sealing import unseal
from tasks_app.push.values import Push
from tests.unit.test_push_guard import Names

URL = "https://hooks.example/a2a"


def config(**fields: object) -> TaskPushNotificationConfig:
    return TaskPushNotificationConfig(**{"url": URL, **fields})  # type: ignore[arg-type]


def wrong_field(asked: TaskPushNotificationConfig) -> str:
    with pytest.raises(InvalidParamsError) as caught:
        wire.asked(asked)
    (violation,) = violations(caught.value)
    return violation["field"]


def test_what_is_asked_for_is_kept_with_its_secrets_sealed() -> None:
    authentication = AuthenticationInfo(scheme="Bearer", credentials="s3cret")
    push = wire.asked(config(id="mine", token="t0ken", authentication=authentication))
    assert (push.config_id, push.named, push.url, push.host) == ("mine", True, URL, "hooks.example:443")
    assert push.scheme == "Bearer"
    assert push.token is not None
    assert push.credentials is not None
    assert (unseal(push.token), unseal(push.credentials)) == (b"t0ken", b"s3cret")
    assert b"s3cret" not in push.credentials


def test_an_id_is_made_where_none_is_named() -> None:
    first, second = wire.asked(config()), wire.asked(config())
    assert len(first.config_id) == 36
    assert first.config_id != second.config_id
    assert first.asked() == second.asked()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://hooks.example", "hooks.example:80"),
        ("http://hooks.example:8080/x", "hooks.example:8080"),
        ("https://[2606:4700::1111]/x", "[2606:4700::1111]:443"),
        ("https://bücher.example/x", "xn--bcher-kva.example:443"),
    ],
)
def test_hosts_are_known_by_name_and_port(url: str, host: str) -> None:
    assert wire.asked(config(url=url)).host == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example",
        "/hook",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "https://user:password@hooks.example/",
        "https://user@hooks.example/",
        "https://hooks.example:0/",
        "https://hooks.example:99999/",
        "https://hooks.example/a b",
        "https://hooks.example/\r\nX-Evil: 1",
        "https://hooks.example/\x00",
        "https://[::1/",
        "https://hooks.example/" + "x" * 2048,
    ],
)
def test_a_url_that_is_none_of_a_webhook_is_refused(url: str) -> None:
    assert wrong_field(config(url=url)) == "url"


@pytest.mark.parametrize(
    "text", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", " secret", "secret ", "ä", "€", "x" * 4097, "\x7f"]
)
def test_a_secret_that_no_header_can_carry_is_refused_and_not_repeated(text: str) -> None:
    assert wrong_field(config(token=text)) == "token"
    bad = AuthenticationInfo(scheme="Bearer", credentials=text)
    with pytest.raises(InvalidParamsError) as caught:
        wire.asked(config(authentication=bad))
    assert violations(caught.value)[0]["field"] == "authentication.credentials"
    assert text not in caught.value.message


@pytest.mark.parametrize("scheme", ["", "Bear er", "Bearer\r\n", "Bearer:", "ä", "x" * 65])
def test_an_authentication_needs_a_scheme(scheme: str) -> None:
    assert wrong_field(config(authentication=AuthenticationInfo(scheme=scheme))) == "authentication.scheme"


@pytest.mark.parametrize("name", ["x" * 129, "a\x00b", "a\nb"])
def test_an_id_is_short_and_printable(name: str) -> None:
    assert wrong_field(config(id=name)) == "id"


def test_what_is_shown_has_no_secrets() -> None:
    task_id = uuid4()
    shown = wire.shown(Push(task_id=task_id, config_id="mine", url=URL, scheme="Bearer"))
    assert (shown.id, shown.task_id, shown.url) == ("mine", str(task_id), URL)
    assert (shown.authentication.scheme, shown.authentication.credentials, shown.token) == ("Bearer", "", "")


async def test_a_literal_private_address_is_refused_by_the_name_of_its_field() -> None:
    push = wire.asked(config(url="http://169.254.169.254/latest/meta-data"))
    with pytest.raises(InvalidParamsError) as caught:
        await wire.screen(push, Guard([], resolve), path="configuration.taskPushNotificationConfig.")
    assert violations(caught.value)[0]["field"] == "configuration.taskPushNotificationConfig.url"


async def test_so_is_a_name_that_resolves_to_one() -> None:
    with pytest.raises(InvalidParamsError, match="not a public address"):
        await wire.screen(wire.asked(config()), Guard([], Names(["8.8.8.8", "10.0.0.1"])))


async def test_a_name_that_does_not_resolve_now_is_let_through() -> None:
    await wire.screen(wire.asked(config()), Guard([], Names([])))


async def test_an_inline_config_names_no_task() -> None:
    inline = SendMessageConfiguration(task_push_notification_config=config(task_id=str(uuid4())))
    with pytest.raises(InvalidParamsError) as caught:
        await operations.inline(inline)
    assert violations(caught.value)[0]["field"] == "configuration.taskPushNotificationConfig.taskId"
    assert await operations.inline(SendMessageConfiguration()) is None


@pytest.mark.parametrize("name", ["a", "ä/ö", "x" * 128, ""])
def test_a_page_token_stands_for_an_id(name: str) -> None:
    assert wire.after(wire.page_token(name)) == name


@pytest.mark.parametrize("token", ["x", "äöü=", "AA==", "////", "_w=="])
def test_a_page_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(InvalidParamsError, match="pageToken"):
        wire.after(token)
