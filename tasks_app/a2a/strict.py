"""What protobuf's JSON parser takes for something else, or refuses in Python's words, said before it reads. Pure.

It takes a list for an empty message, 99.5 for an enum's 99, and of a field that stands under both its names the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tasks_app.a2a.errors import invalid

_STRUCT, _VALUE, _TIMESTAMP = (f"google.protobuf.{name}" for name in ("Struct", "Value", "Timestamp"))
_WHOLE = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64)


def check(data: Mapping[str, Any], descriptor: Descriptor, *, path: str) -> None:
    """Raises InvalidParamsError for a field of the wrong type, or under both of its names (``taskId``, ``task_id``).

    A null is a field that was left out; one that is not known is left to the parser. ``path`` may be empty.
    """
    known, found = _fields(descriptor), set()
    for name, value in data.items():
        field = known.get(name)
        if field is None or value is None:
            continue
        where = f"{path}.{field.json_name}" if path else field.json_name
        if field.number in found:
            raise invalid(where, f"stands there twice, as {field.json_name} and as {field.name}")
        found.add(field.number)
        if not field.is_repeated:
            _check_value(value, field, where)
            continue
        if not isinstance(value, list):
            raise invalid(where, "must be a list")
        for index, item in enumerate(value):
            _check_value(item, field, f"{where}[{index}]")


def _check_value(value: Any, field: FieldDescriptor, path: str) -> None:
    if field.message_type is not None:
        _check_message(value, field.message_type, path)
    elif field.enum_type is not None:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise invalid(path, "must be the name of a value, or its number")
    elif field.type == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise invalid(path, "must be true or false")
    elif field.type in _WHOLE:
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            raise invalid(path, "must be a whole number")
    elif not isinstance(value, str):
        raise invalid(path, "must be a string")


def _check_message(value: Any, descriptor: Descriptor, path: str) -> None:
    name = descriptor.full_name
    if name == _VALUE:
        return
    if name == _TIMESTAMP:
        if not isinstance(value, str):
            raise invalid(path, "must be an instant, as a string")
        return
    if not isinstance(value, Mapping):
        raise invalid(path, "must be an object")
    if name != _STRUCT:
        check(value, descriptor, path=path)


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """A message's fields by either of their names."""
    return {name: field for field in descriptor.fields for name in (field.json_name, field.name)}
