"""Hypothesis' strategies from protobuf descriptors: messages whose types are right, with values near the edges."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.protocol.doors import EXTENSION

Json = dict[str, Any]

TEXTS = ["", " ", "\x00", "a\x00b", "é", "\U0001f9e0", "\u202e", "\u2028", "x" * 129, "x" * 257, "x" * 5_000, "$task"]
TEXTS += [
    "NaN",
    "null",
    "1e999",
    "'; --",
    "%s",
    "{}",
    "..",
    "a/b",
    "%2e%2e",
    "18446744073709551616",
    "2026-01-31T12:00:00Z",
]
text: SearchStrategy[str] = st.text(max_size=20) | st.sampled_from(TEXTS)
numbers: SearchStrategy[Any] = (
    st.integers(-(2**65), 2**65)
    | st.floats()
    | st.sampled_from([0, -1, 1, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, 1.5])
)
leaves: SearchStrategy[Any] = st.none() | st.booleans() | text | numbers
#: Any JSON, and NaN and infinity besides.
anything: SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8
)
#: JSON that protobuf can say, whose numbers are the same in every binding.
said: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.text(max_size=8)
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
objects: SearchStrategy[Json] = st.dictionaries(st.text(max_size=8), said, max_size=3)
instants = st.sampled_from(
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.123456789+05:30",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
    ]
)
options = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from(["critical", "low", "high", "none"]),
        "timeout_s": st.sampled_from([5, 0.5, 1e-300, 0, 1e9]),
        "run_after": instants,
        "start_deadline_s": st.sampled_from([60, 1.5]),
        "parameters": st.just({}) | objects,
        "resources": st.fixed_dictionaries(
            {}, optional={"memory_mb": st.sampled_from([1, 1.0, 1.5]), "cores": st.just(0.5)}
        ),
        "skill": st.sampled_from(["echo", "nothing", ""]),
    },
)
hooks = [
    *[
        "https://192.0.2.1/hook",
        "http://127.0.0.1/",
        "https://hook.invalid/a",
        "http://[::1]:9/",
        "http://[fe80::1%25eth0]/",
    ],
    *[
        "http://xn--zzzzzzzzz--/",
        "https://user:pw@hook.invalid/",
        "http://hook.invalid:0/",
        "ftp://hook.invalid/",
        "http://[",
        "",
    ],
    *["http://" + "a" * 300 + ".invalid/", "http://é.invalid/", "//hook.invalid/", "https://hook.invalid:99999/", "x"],
    *["http://hook.invalid/\x00", "http://hook.invalid/#\ud7ff", "http://0x7f.1/", "http://" + "a." * 400 + "invalid/"],
]

#: What a field of this name holds, where its type says too little.
BY_NAME: dict[str, SearchStrategy[Any]] = {
    "role": st.sampled_from(["ROLE_USER"] * 8 + ["ROLE_AGENT", "ROLE_UNSPECIFIED"]),
    "message_id": st.sampled_from(["$new"] * 6 + ["", "a\x00", "x" * 257, "é" * 256]),
    "task_id": st.sampled_from(["$task", "$task", "$ended", "0199b3b4-0000-7000-8000-000000000000", "x", "a\x00b"]),
    "id": st.sampled_from(["$task", "$task", "$ended", "0199b3b4-0000-7000-8000-000000000000", "x", "..", "é", "a b"]),
    "context_id": st.sampled_from(["$new", "context", "a\x00", "x" * 128, "x" * 129, "é" * 128]),
    "reference_task_ids": st.lists(st.sampled_from(["$task", "$ended", "x", ""]), max_size=2),
    "media_type": st.sampled_from(
        ["text/plain", "application/json", "TEXT/PLAIN; charset=x", "image/png", "", "x", "é"]
    ),
    "accepted_output_modes": st.lists(st.sampled_from(["text/plain", "", "*/*", "x" * 129, "a\x00"]), max_size=2),
    "return_immediately": st.sampled_from([True, True, True, False]),
    "blocking": st.sampled_from([False, False, True]),
    "history_length": st.sampled_from([0, 1, 3, -1, 2**31 - 1, -(2**31)]),
    "page_size": st.sampled_from([1, 50, 100, 0, -1, 101, 2**31 - 1]),
    "page_token": st.sampled_from(["", "x", "QQ==", "AA==", "é", "=" * 4])
    | st.builds(
        lambda at, end: base64.urlsafe_b64encode(f"{at}~{end}".encode()).decode(),
        st.sampled_from(
            [
                "2026-01-01T00:00:00+00:00",
                "0001-01-01T00:00:00+23:59",
                "9999-12-31T23:59:59-15:59",
                "2026-01-01T00:00:00+00:00:30.5",
                "2026-01-01T00:00:00",
                "2026-W01-1T00:00:00Z",
                "x",
            ]
        ),
        st.sampled_from(
            ["0199b3b4-0000-7000-8000-000000000000", "{0199b3b4-0000-7000-8000-000000000000}", "x", "\x00"]
        ),
    ),
    "metadata": objects
    | st.builds(lambda said: {EXTENSION: said}, options)
    | st.builds(lambda a, said: {**a, EXTENSION: said}, objects, said),
    "scheme": st.sampled_from(["Bearer", "", "a b", "é", "x" * 65]),
    "token": st.sampled_from(["token", "é", "a\nb", "x" * 4097, " x"]),
    "url": st.sampled_from(hooks),
    "parts": st.nothing(),
    "name": st.sampled_from(
        ["tasks/$task", "tasks/x", "tasks/$task/pushNotificationConfigs/a", "tasks//", "x", "", "tasks/a\x00b"]
    ),
    "parent": st.sampled_from(["tasks/$task", "tasks/x", "tasks/$task/", "tasks/", ""]),
}
#: What is hardly ever left out.
NEEDED = {
    "message",
    "request",
    "parts",
    "content",
    "message_id",
    "role",
    "url",
    "text",
    "name",
    "parent",
    "config",
    "push_notification_config",
}
#: The address names the agent.
LEFT_OUT = {"tenant"}


def messages(descriptor: Descriptor, *, top: bool = True) -> SearchStrategy[Json]:
    """ProtoJSON of this message: right types, values near the edges."""
    if descriptor.full_name == "google.protobuf.Struct":
        return objects
    fields = [field for field in descriptor.fields if field.name not in LEFT_OUT]
    alone = [field for field in fields if field.containing_oneof is None or _is_optional(field)]
    oneofs = [oneof for oneof in descriptor.oneofs if not _is_optional(oneof.fields[0])]
    needed = {field.json_name: _field(field) for field in alone if _is_needed(field, top)}
    rest = {field.json_name: _field(field) for field in alone if field.json_name not in needed}
    made: SearchStrategy[Json] = st.fixed_dictionaries(needed, optional=rest)
    for oneof in oneofs:
        one = st.one_of([_alone(field) for field in oneof.fields])
        made = st.builds(lambda left, right: {**left, **right}, made, one)
    return made


def _alone(field: FieldDescriptor) -> SearchStrategy[Json]:
    return st.fixed_dictionaries({field.json_name: _field(field)})


def _is_optional(field: FieldDescriptor) -> bool:
    """Whether its oneof is only how proto3 says «optional»."""
    return bool(field.containing_oneof is not None and field.containing_oneof.name.startswith("_"))


def _is_needed(field: FieldDescriptor, top: bool) -> bool:
    return field.name in NEEDED or (top and field.name in ("id", "task_id"))


def _field(field: FieldDescriptor) -> SearchStrategy[Any]:
    if field.name in BY_NAME and field.name != "parts":
        return BY_NAME[field.name]
    if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
        return st.lists(_value(field), min_size=1 if field.name in NEEDED else 0, max_size=3)
    return _value(field)


def _value(field: FieldDescriptor) -> SearchStrategy[Any]:
    if field.message_type is not None:
        known = _well_known(field.message_type)
        return st.deferred(lambda: messages(field.message_type, top=False)) if known is None else known
    if field.enum_type is not None:
        return st.sampled_from([value.name for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode())
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64):
        return st.integers(-(2**31), 2**31 - 1)
    return st.text(max_size=12)


def _well_known(descriptor: Descriptor) -> SearchStrategy[Any] | None:
    return {
        "google.protobuf.Timestamp": instants,
        "google.protobuf.Value": said,
        "google.protobuf.Struct": objects,
    }.get(descriptor.full_name)
