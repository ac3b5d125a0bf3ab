"""The OpenAPI description is valid, complete, and says what the doors do."""

from __future__ import annotations

from typing import Any

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tasks_app import batches
from tasks_app.a2a import extension
from tasks_app.api.views import CHANGEABLE
from tasks_app.schedules import asked
from tasks_app.submissions import FIELDS


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    made = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    assert not GENERATOR_STATS
    return dict(made)


def test_it_is_valid_openapi(schema: dict[str, Any]) -> None:
    validate_schema(schema)  # type: ignore[no-untyped-call]


def test_every_call_is_there_with_the_errors_it_gives(schema: dict[str, Any]) -> None:
    calls = {(method, path): call for path, calls in schema["paths"].items() for method, call in calls.items()}
    tasks, batches, schedules = "/api/v1/tasks/", "/api/v1/batches/", "/api/v1/schedules/"
    artifact = "/api/v1/artifacts/{id}/"
    assert {call: set(what["responses"]) for call, what in calls.items()} == {
        ("get", "/api/v1/artifacts/"): {"200", "400"},
        ("get", artifact): {"200", "404"},
        ("get", f"{artifact}url/"): {"200", "400", "404"},
        ("get", batches): {"200", "400"},
        ("post", batches): {"200", "201", "400", "429"},
        ("get", f"{batches}{{id}}/"): {"200", "404"},
        ("post", f"{batches}{{id}}/cancel/"): {"200", "404", "409"},
        ("post", f"{batches}{{id}}/rerun/"): {"200", "404", "409", "429"},
        ("get", schedules): {"200", "400"},
        ("post", schedules): {"201", "400"},
        ("get", f"{schedules}{{id}}/"): {"200", "404"},
        ("patch", f"{schedules}{{id}}/"): {"200", "400", "404"},
        ("delete", f"{schedules}{{id}}/"): {"204", "404"},
        ("get", f"{schedules}{{id}}/fires/"): {"200", "400", "404"},
        ("post", f"{schedules}{{id}}/pause/"): {"200", "404", "409"},
        ("post", f"{schedules}{{id}}/resume/"): {"200", "404", "409"},
        ("post", f"{schedules}{{id}}/run/"): {"201", "404"},
        ("get", tasks): {"200", "400"},
        ("post", tasks): {"200", "201", "400", "415", "429"},
        ("get", f"{tasks}{{id}}/"): {"200"},
        ("patch", f"{tasks}{{id}}/"): {"200", "400", "404", "409"},
        ("post", f"{tasks}{{id}}/cancel/"): {"200", "404", "409"},
        ("post", f"{tasks}{{id}}/messages/"): {"200", "400", "404", "409", "415", "429"},
        ("post", f"{tasks}{{id}}/rerun/"): {"201", "404", "409", "429"},
    }
    for call in calls.values():
        assert call["security"] == [{"bearer": []}, {"apiKey": []}]
        for code, answer in call["responses"].items():
            if code == "204":
                continue
            shown = answer["content"]["application/json"]["schema"]["$ref"]
            assert shown.endswith("/Error") == (code >= "400")


def test_the_bodies_and_filters_are_those_that_are_read(schema: dict[str, Any]) -> None:
    shapes = schema["components"]["schemas"]
    assert set(shapes["Submission"]["properties"]) == set(FIELDS) >= set(extension.FIELDS)
    assert set(shapes["BatchSubmission"]["properties"]) == set(batches.FIELDS)
    assert set(shapes["ScheduleSubmission"]["properties"]) == set(asked.FIELDS)
    assert set(shapes["PatchedChange"]["properties"]) == set(CHANGEABLE)
    filters = {field["name"] for field in schema["paths"]["/api/v1/tasks/"]["get"]["parameters"]}
    assert filters == {"status", "priority", "agent", "context_id", "batch_id", "dead_letters", "page_size", "cursor"}
