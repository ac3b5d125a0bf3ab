"""Params of the JSON-RPC methods of A2A 0.3 and 0.1, which no descriptor describes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.protocol.fuzzing.strategies import BY_NAME, Json, objects


def _older(**fields: Any) -> SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=fields)


_file = _older(
    bytes=st.sampled_from(["aGk=", "aGk", "é", ""]),
    uri=st.just("https://a.invalid"),
    mimeType=BY_NAME["media_type"],
    name=st.text(max_size=5),
)
_parts = st.lists(
    st.fixed_dictionaries({"kind": st.just("text"), "text": st.text(max_size=8)}, optional={"metadata": objects})
    | st.fixed_dictionaries(
        {"kind": st.just("data"), "data": objects}, optional={"metadata": objects | st.just({"data_part_compat": True})}
    )
    | st.fixed_dictionaries({"kind": st.just("file"), "file": _file}, optional={"metadata": objects}),
    min_size=1,
    max_size=3,
)
_push = st.fixed_dictionaries(
    {"url": BY_NAME["url"]},
    optional={
        "id": st.sampled_from(["a", "é", "\u2028"]),
        "token": BY_NAME["token"],
        "authentication": _older(schemes=st.lists(BY_NAME["scheme"], max_size=2), credentials=BY_NAME["token"]),
    },
)
_message_0_3 = st.fixed_dictionaries(
    {"role": st.just("user"), "messageId": BY_NAME["message_id"], "parts": _parts, "kind": st.just("message")},
    optional={
        "contextId": BY_NAME["context_id"],
        "taskId": BY_NAME["task_id"],
        "metadata": BY_NAME["metadata"],
        "referenceTaskIds": BY_NAME["reference_task_ids"],
        "extensions": st.lists(st.text(max_size=5), max_size=2),
    },
)
_config_0_3 = _older(
    blocking=st.booleans(),
    historyLength=BY_NAME["history_length"],
    acceptedOutputModes=BY_NAME["accepted_output_modes"],
    pushNotificationConfig=_push,
)
_send_0_3 = st.fixed_dictionaries(
    {"message": _message_0_3}, optional={"configuration": _config_0_3, "metadata": objects}
)
_message_0_1 = st.fixed_dictionaries(
    {
        "role": st.just("user"),
        "parts": _parts.map(
            lambda parts: [{"type" if name == "kind" else name: part[name] for name in part} for part in parts]
        ),
    },
    optional={"metadata": BY_NAME["metadata"]},
)
_alias = st.sampled_from(["$new", "$task", "$ended", "", "é" * 200, "x" * 201, "a\x00"])
_send_0_1 = st.fixed_dictionaries(
    {"id": _alias, "message": _message_0_1},
    optional={
        "sessionId": BY_NAME["context_id"],
        "historyLength": BY_NAME["history_length"],
        "metadata": objects,
        "acceptedOutputModes": st.lists(st.sampled_from(["text", "data", "file", "x"]), max_size=2),
        "pushNotification": _push,
    },
)
_id = st.fixed_dictionaries(
    {"id": BY_NAME["id"]}, optional={"historyLength": BY_NAME["history_length"], "metadata": objects}
)
_config_id = st.fixed_dictionaries(
    {"id": BY_NAME["id"]}, optional={"pushNotificationConfigId": st.sampled_from(["a", "", "\x00"])}
)
#: JSON-RPC's methods of 0.3 and 0.1, and their params.
METHODS: dict[str, SearchStrategy[Json]] = {
    "message/send": _send_0_3,
    "message/stream": _send_0_3,
    "tasks/get": _id,
    "tasks/cancel": _id,
    "tasks/resubscribe": _id,
    "tasks/pushNotificationConfig/set": st.fixed_dictionaries(
        {"taskId": BY_NAME["id"], "pushNotificationConfig": _push}
    ),
    "tasks/pushNotificationConfig/get": _config_id,
    "tasks/pushNotificationConfig/list": _config_id,
    "tasks/pushNotificationConfig/delete": _config_id,
    "agent/getAuthenticatedExtendedCard": st.just({}),
    "tasks/send": _send_0_1,
    "tasks/sendSubscribe": _send_0_1,
    "tasks/pushNotification/set": st.fixed_dictionaries({"id": _alias, "pushNotificationConfig": _push}),
    "tasks/pushNotification/get": st.fixed_dictionaries({"id": _alias}),
}
