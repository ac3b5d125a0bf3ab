"""Addresses of artifacts that need no key: of one artifact, for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from artifacts_app.models import Artifact
from tasks_app import signed_urls
from tasks_app.models import ApiKey
from tests.factory import Factory
from tests.protocol.doors import Doors
from tests.protocol.test_delivery import PARTS, WHOLE, made
from tests.protocol.test_limits import limited

ELSEWHERE = "203.0.113.7"


def asked(doors: Doors, path: str, **query: Any) -> dict[str, Any]:
    reply = doors.send("GET", path.replace("content", "url/"), params=query)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def read(doors: Doors, url: str, **options: Any) -> Any:
    """What somebody reads who has no key, and is not on this machine."""
    parts = urlsplit(url)
    return doors.send("GET", f"{parts.path}?{parts.query}", peer=ELSEWHERE, **options)


def test_whoever_has_the_address_reads_the_artifact_until_it_expires(
    doors: Doors, local: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(local, *PARTS)
    assert doors.send("GET", path, peer=ELSEWHERE).status_code == 401
    found = asked(doors, path, expires_s=60)
    until = datetime.fromisoformat(found["expires_at"])
    assert abs(until - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=5)
    assert found["url"].startswith("http://localhost/")
    reply = read(doors, found["url"])
    assert (reply.status_code, reply.content) == (200, WHOLE)
    ranged = read(doors, found["url"], headers={"range": "bytes=4-7"})
    assert (ranged.status_code, ranged.content) == (206, WHOLE[4:8])
    monkeypatch.setattr(timezone, "now", lambda: until + timedelta(seconds=2))
    late = read(doors, found["url"])
    assert (late.status_code, late.json()["detail"]) == (403, "the address has expired")


def test_it_is_of_one_artifact_and_nobody_can_make_one(doors: Doors, local: Factory, settings: Any) -> None:
    first, second = made(local, b"first"), made(local, b"second")
    (token,) = parse_qs(urlsplit(asked(doors, first)["url"]).query)["token"]
    for path, given, why in (
        (second, token, "the address is another artifact's"),
        (first, f"{token[:-2]}xx", "the address was not made here"),
        (first, "", "the address was not made here"),
        (first, "a:b", "the address was not made here"),
    ):
        reply = doors.send("GET", path, params={"token": given}, peer=ELSEWHERE)
        assert (reply.status_code, reply.json()["errors"]) == (403, [{"field": "token", "message": why}])
    settings.SECRET_KEY = f"{django_settings.SECRET_KEY}x"
    assert doors.send("GET", first, params={"token": token}, peer=ELSEWHERE).status_code == 403


def test_it_names_the_public_address(doors: Doors, local: Factory, settings: Any) -> None:
    settings.A2A_PUBLIC_URL = "https://tasks.example/"
    assert asked(doors, made(local, b"x"))["url"].startswith("https://tasks.example/api/v1/artifacts/")


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", str(signed_urls.EXPIRES_MAX_S + 1), "9" * 20])
def test_a_time_that_is_none_is_refused(doors: Doors, local: Factory, text: str) -> None:
    reply = doors.send("GET", made(local, b"x").replace("content", "url/"), params={"expires_s": text})
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, "expires_s")


def test_an_artifact_is_shown_to_its_client_only(doors: Doors, local: Factory) -> None:
    path = made(local, *PARTS)
    artifact = Artifact.objects.get()
    shown = doors.send("GET", path.replace("content", "")).json()
    assert (shown["id"], shown["size_bytes"], shown["type"]) == (str(artifact.id), len(WHOLE), "image/png")
    assert shown["content_url"] == path
    client, _ = limited()
    _, key = ApiKey.issue(client)
    for unknown in (artifact.id, uuid4(), "x"):
        for verb in ("", "url/"):
            reply = doors.send("GET", f"/api/v1/artifacts/{unknown}/{verb}", headers={"x-api-key": key})
            assert (reply.status_code, reply.json()["detail"]) == (404, f"no artifact '{unknown}'")
