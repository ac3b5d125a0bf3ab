"""What breaks a request: in its values, its keys, its text or its bytes."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.protocol.fuzzing.strategies import Json, anything, text

#: What Python's json has no word for stands so in a text, and is written without its quotes.
BARE = ["1e999", "-1e999", "1e-999", "18446744073709551616", "9" * 5_000, "-0", "-0.0", "01", "+1", ".5", "0x1", "nul"]


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below this JSON."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    return [place for key in keys for place in ((data, key), *places(data[key]))]


@st.composite
def broken(draw: DrawFn, whole: SearchStrategy[Json]) -> bytes:
    """The JSON with some changes, in its values, its keys, its text or its bytes."""
    data = copy.deepcopy(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, data)
    written = json.dumps(data)
    for bare in BARE:
        written = written.replace(f'"@{bare[:20]}@"', bare)
    written = (
        written.replace('"@twice":', '"method":')
        .replace('"@surrogate@"', '"\\ud800"')
        .replace('"@deep@"', "[" * 40 + "]" * 40)
    )
    encoded = written.encode()
    return draw(bytes_near(encoded)) if draw(st.integers(0, 9)) == 9 else encoded


def _change(draw: DrawFn, data: Json) -> None:
    found = places(data)
    if not found:
        data[draw(text)] = draw(anything)
        return
    container, key = draw(st.sampled_from(found))
    what = draw(
        st.sampled_from(["replace", "replace", "bare", "drop", "snake", "wrap", "spell", "other", "double", "deep"])
    )
    if what == "replace":
        container[key] = draw(anything)
    elif what == "bare":
        container[key] = draw(st.sampled_from(["@surrogate@", "@deep@", *[f"@{bare[:20]}@" for bare in BARE]]))
    elif what == "drop":
        del container[key]
    elif what == "wrap":
        container[key] = draw(st.sampled_from([[container[key]], {"value": container[key]}, [[]], {}]))
    elif what == "spell":
        container[key] = str(container[key])
    elif what == "deep":
        container[key] = _deep(draw(st.integers(25, 34)), container[key])
    elif isinstance(container, dict):
        _another_key(draw, container, key, what)
    else:
        container.append(draw(anything))


def _another_key(draw: DrawFn, container: Json, key: str, what: str) -> None:
    """Beside a field: the same under protobuf's name, or a member of another oneof, or of another message."""
    if what == "snake":
        container["".join(f"_{char.lower()}" if char.isupper() else char for char in str(key))] = container[key]
    elif what == "double":
        container[
            draw(st.sampled_from(["text", "raw", "url", "data", "mediaType", "task", "message", "file", "tenant"]))
        ] = draw(anything)
    else:
        container[draw(text)] = container[key]


def _deep(levels: int, inner: Any) -> Any:
    for level in range(levels):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


@st.composite
def bytes_near(draw: DrawFn, data: bytes) -> bytes:
    """The bytes with some cut, turned, repeated or put in."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(["cut", "turn", "twice", "in"]))
        if what == "cut":
            data = data[:at]
        elif what == "turn":
            data = data[:at] + draw(st.binary(min_size=1, max_size=1)) + data[at + 1 :]
        elif what == "twice":
            data = data + data[at:]
        else:
            data = (
                data[:at]
                + draw(st.sampled_from([b"\xff", b"\x00", b"\xed\xa0\x80", b"\xc0\xaf", b"[" * 99, b"\xef\xbb\xbf"]))
                + data[at:]
            )
    return data
