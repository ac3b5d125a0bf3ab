"""Requests from the protobuf descriptors of A2A, whole and broken: each is answered, and done whole or not at all.

``make fuzz`` does the same for much longer, and not the same twice.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from uuid import uuid4

import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.protocol.bindings import PATHS, SERVICE
from tests.protocol.fuzzing import addresses, breaking, older, strategies
from tests.protocol.fuzzing.doors import Asker
from tests.protocol.fuzzing.properties import holds
from tests.protocol.fuzzing.requests import Request, Rpc, as_json, http, jsonrpc, put, rest, rpc

#: They may only read here, from the one transaction that each is in.
pytestmark = pytest.mark.django_db
EXAMPLES = int(os.environ.get("A2A_FUZZ_EXAMPLES", "10"))
LONG = "A2A_FUZZ_EXAMPLES" in os.environ
settings.register_profile(
    "a2a",
    max_examples=EXAMPLES,
    derandomize=not LONG,
    database=None,
    deadline=None,
    print_blob=False,
    phases=[Phase.generate, *([Phase.shrink] if LONG and "A2A_FUZZ_RAW" not in os.environ else [])],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("a2a")

SERVICE_0_3 = a2a_v0_3_pb2.DESCRIPTOR.services_by_name["A2AService"]
PATHS_0_3 = {
    "SendMessage": ("POST", "v1/message:send"),
    "SendStreamingMessage": ("POST", "v1/message:stream"),
    "CreateTaskPushNotificationConfig": ("POST", "v1/tasks/$task/pushNotificationConfigs"),
    "CancelTask": ("POST", "v1/tasks/$task:cancel"),
    "TaskSubscription": ("POST", "v1/tasks/$task:subscribe"),
}


def asks(method: str) -> st.SearchStrategy[dict[str, Any]]:
    return strategies.messages(SERVICE.methods_by_name[method].input_type)


def check(asker: Asker, request: Request) -> None:
    note(f"case: {json.dumps(as_json(request))}")
    with asker.emptied():
        holds(asker, request)


@pytest.mark.parametrize("method", PATHS)
@given(data=st.data())
def test_the_bindings_agree_on_what_they_are_asked(asker: Asker, method: str, data: st.DataObject) -> None:
    params = data.draw(asks(method))
    note(f"{method} {json.dumps(params)}")
    with asker.emptied():
        # The same message over another binding is the same request; one about a task of its own is another.
        new, shared = str(uuid4()), "$task" not in json.dumps(params) and "$ended" not in json.dumps(params)
        outcomes = {}
        for binding in (jsonrpc, rest, rpc):
            ids = asker.ids() | ({"$new": new} if shared else {})
            try:
                request = binding(method, put(params, ids))
            except (ParseError, ValueError, TypeError):
                continue
            outcomes[binding.__name__] = holds(asker, request, ids)
        first = outcomes["jsonrpc"]
        for found in outcomes.values():
            assert (found.reason, found.fields) == (first.reason, first.fields), outcomes


@pytest.mark.parametrize("method", PATHS)
@given(data=st.data())
def test_a_broken_call_is_refused_or_done_whole(asker: Asker, method: str, data: st.DataObject) -> None:
    envelope = asks(method).map(lambda params: {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    check(asker, http("POST", "/a2a/echo/", data.draw(breaking.broken(envelope))))


@pytest.mark.parametrize("method", [method for method, (verb, _) in PATHS.items() if verb == "POST"])
@given(data=st.data())
def test_a_broken_body_is_refused_or_done_whole(asker: Asker, method: str, data: st.DataObject) -> None:
    path = PATHS[method][1].format(id="$task", taskId="$task")
    check(asker, http("POST", f"/a2a/echo/{path}", data.draw(breaking.broken(asks(method)))))


@given(data=st.data())
def test_a_broken_path_or_query_is_refused(asker: Asker, data: st.DataObject) -> None:
    verb, path = data.draw(addresses.paths())
    check(asker, http(verb, path, a2a_version="0.3" if "/v1/" in path else "1.0"))


@given(data=st.data())
def test_a_broken_header_is_refused_or_ignored(asker: Asker, data: st.DataObject) -> None:
    verb, path, body = data.draw(st.sampled_from(addresses.REQUESTS))
    check(asker, http(verb, path, body, **data.draw(addresses.headers)))


@pytest.mark.parametrize("service", [SERVICE, SERVICE_0_3], ids=["1.0", "0.3"])
@given(data=st.data())
def test_broken_protobuf_is_refused_or_done_whole(asker: Asker, service: Any, data: st.DataObject) -> None:
    declared = data.draw(st.sampled_from(list(service.methods)))
    params = data.draw(strategies.messages(declared.input_type))
    ids = asker.ids()
    version = "1.0" if service is SERVICE else "0.3"
    try:
        whole = ParseDict(put(params, ids), GetMessageClass(declared.input_type)()).SerializeToString()
    except (ParseError, ValueError, TypeError):
        whole = b""
    body = data.draw(breaking.bytes_near(whole)) if data.draw(st.booleans()) else whole
    method = f"/{service.full_name}/{declared.name}"
    check(asker, Rpc(method, base64.b64encode(body).decode(), declared.server_streaming, {"a2a-version": version}))


@pytest.mark.parametrize("method", PATHS_0_3)
@given(data=st.data())
def test_a_broken_body_of_0_3_is_refused_or_done_whole(asker: Asker, method: str, data: st.DataObject) -> None:
    verb, path = PATHS_0_3[method]
    body = data.draw(breaking.broken(strategies.messages(SERVICE_0_3.methods_by_name[method].input_type)))
    check(asker, http(verb, f"/a2a/echo/{path}", body, a2a_version="0.3"))


@pytest.mark.parametrize("method", older.METHODS)
@given(data=st.data())
def test_a_broken_call_of_an_older_version_is_refused_or_done_whole(
    asker: Asker, method: str, data: st.DataObject
) -> None:
    envelope = older.METHODS[method].map(lambda params: {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    body = (
        data.draw(breaking.broken(envelope))
        if data.draw(st.integers(0, 2))
        else json.dumps(data.draw(envelope)).encode()
    )
    check(asker, http("POST", "/a2a/echo/", body, a2a_version=""))
