"""Fixtures of the protocol tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from stack.ports import find_free
from stack.scripts import read_procfile
from tasks_app.models import Client
from tasks_app.models.client import LOCAL_CLIENT
from tests.factory import Factory
from tests.live import Live, wait_for
from tests.protocol.bindings import BINDINGS, Binding
from tests.protocol.doors import Doors
from tests.protocol.fuzzing.doors import Asker


@pytest.fixture
def doors(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doors]:
    """Both doors, on the tests' database."""
    # Django answers each request on a thread of its own, whose connection would keep the database from being dropped.
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    made = Doors()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shut_doors(django_db_setup: None, django_db_blocker: Any) -> Iterator[Doors]:
    """Both doors for a module of which no request is let in: the tables are emptied once, after all of its tests.

    The module's tests are marked ``django_db``, so that there is a test database.
    """
    assert connection.settings_dict["NAME"].startswith("test_")
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
        made = Doors()
        yield made
        made.close()
        call_command("flush", interactive=False, verbosity=0, allow_cascade=True)


@pytest.fixture(scope="module")
def asker(django_db_setup: None, django_db_blocker: Any) -> Iterator[Asker]:
    """Asks both servers, for a module whose tests leave no task behind; nobody waits for the end of one.

    The module's tests are marked ``django_db``, so that there is a test database, and only read in their transaction.
    """
    assert connection.settings_dict["NAME"].startswith("test_")
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
        monkeypatch.setattr(settings, "A2A_BLOCKING_WAIT_S", 0.0)
        made = Asker()
        yield made
        made.close()
        call_command("flush", interactive=False, verbosity=0, allow_cascade=True)


@pytest.fixture(params=BINDINGS)
def binding(request: pytest.FixtureRequest, doors: Doors) -> Binding:
    """Each of A2A 1.0's bindings in turn."""
    made: Binding = BINDINGS[request.param](doors)
    return made


@pytest.fixture
def local(transactional_db: None) -> Factory:
    """Makes tasks of the client that requests without a key belong to."""
    return Factory(Client.objects.get_or_create(name=LOCAL_CLIENT)[0])


@pytest.fixture
def grpc_address(live: Live) -> Iterator[str]:
    """Where the running stack is served over gRPC, whose default agent is ``sleep``."""
    port = find_free()
    command = read_procfile(live.stack.procfile)["grpc"]
    with live.process(command, A2A_GRPC_PORT=str(port), A2A_DEFAULT_AGENT="sleep"):
        wait_for(lambda: _is_listening(port), what="gRPC is served")
        yield f"127.0.0.1:{port}"


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
