"""Behind TLS, which ends at a proxy (A2A 1.0, section 13.4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.doors import Doors

pytestmark = pytest.mark.django_db
PATHS = ["/a2a/echo/tasks", "/.well-known/agent-card.json", "/healthz", "/api/v1/tasks/"]
OVER_TLS = {"a2a-version": "1.0", "x-forwarded-proto": "https"}


@pytest.mark.parametrize("path", PATHS)
def test_what_came_over_tls_is_told_to_stay_there(shut_doors: Doors, settings: Any, path: str) -> None:
    settings.SECURE_HSTS_SECONDS, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = 60, True
    reply = shut_doors.send("GET", path, headers=OVER_TLS)
    assert (reply.status_code, reply.headers["strict-transport-security"]) == (200, "max-age=60; includeSubDomains")
    reply = shut_doors.send("GET", path, headers={"a2a-version": "1.0"})
    assert "strict-transport-security" not in reply.headers


def test_without_tls_nothing_is_said_of_it(shut_doors: Doors) -> None:
    assert "strict-transport-security" not in shut_doors.send("GET", PATHS[0], headers=OVER_TLS).headers
