"""What each broker is told, and which messages a worker takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import current_app
from pytest_django import Settings

from tasks_app.brokers import options
from tasks_app.dispatch.queues import JOB_NAMES, lanes_of, queue_names
from tasks_app.prefix import prefixed
from tasks_app.status import Lane
from tests.queues.messages import JOB, hint, old_hint
from workers.messages import problem

TASK = "019b2c7e-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("amqps://user:secret@host/vhost", options.AMQP),
        ("redis+socket:///run/redis.sock?virtual_host=1", options.REDIS),
        ("sqs://", options.SQS),
        ("memory://", options.MEMORY),
        ("kafka://host", ""),
    ],
)
def test_the_scheme_says_which_broker_it_is(url: str, kind: str) -> None:
    assert options.kind(url) == kind


def test_given_options_win_and_the_others_stay() -> None:
    made = options.transport_options("sqs://", '{"polling_interval": 2, "region": "eu-central-1"}')
    assert made["region"] == "eu-central-1"
    assert made["polling_interval"] == 2
    assert made["wait_time_seconds"] == options.DEFAULTS[options.SQS]["wait_time_seconds"]


@pytest.mark.parametrize("text", ["{no", "[]", "17", '"text"'])
def test_options_that_cannot_be_read_are_reported_by_a_check_and_count_for_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="it is"):
        options.given(text)
    assert options.transport_options("amqp://", text) == options.DEFAULTS[options.AMQP]


def test_a_worker_without_a_free_slot_does_not_spin_on_sqs() -> None:
    """kombu asks again at once where the interval is 0 (``Channel._loop1``)."""
    assert options.DEFAULTS[options.SQS]["polling_interval"] > 0


def test_a_prefix_stands_before_a_queues_name_only_at_the_broker(settings: Settings) -> None:
    settings.A2A_QUEUE_PREFIX = "staging."
    assert prefixed("a2a.cpu.low") == "staging.a2a.cpu.low"
    assert lanes_of(["staging.a2a.io.high", "staging.a2a.system"]) == [Lane.IO]
    assert lanes_of(queue_names(Lane.CPU)) == []


def test_command_lines_name_queues_without_the_prefix() -> None:
    for lane in Lane:
        for name in queue_names(lane):
            assert current_app.amqp.queues[name].name == prefixed(name)


# --- messages ---


def received(message: dict[str, Any], content: Any = None) -> Any:
    body = message["body"]
    payload = [list(body[0]), *body[1:]] if isinstance(body, tuple) else body
    return SimpleNamespace(headers=message["headers"], payload=payload if content is None else content)


@pytest.mark.parametrize("message", [hint(TASK, 0), hint(TASK, 2**31 - 1), old_hint(TASK, 3)])
def test_a_hint_of_ours_is_taken_in_both_versions_of_the_protocol(message: dict[str, Any]) -> None:
    assert problem(received(message), {JOB}) == ""


def test_the_systems_worker_takes_any_job_but_the_lanes() -> None:
    rescue = hint(TASK, 0, name="a2a.rescue", args=())
    assert problem(received(rescue), ()) == ""
    assert "is not run by the system's worker" in problem(received(hint(TASK, 0)), ())


def test_a_lanes_worker_takes_no_other_job() -> None:
    assert "is not run by this queue's workers" in problem(received(hint(TASK, 0)), {JOB_NAMES[Lane.CPU]})
    assert "is not run by this queue's workers" in problem(received(hint(TASK, 0, name="celery.map")), {JOB})
