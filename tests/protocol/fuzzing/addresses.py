"""Paths, queries and headers of HTTP, near those that there are."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.protocol.bindings import PATHS
from tests.protocol.doors import EXTENSION
from tests.protocol.fuzzing.requests import jsonrpc
from tests.protocol.fuzzing.strategies import BY_NAME, instants, numbers, text

_ids = st.sampled_from(
    [
        *["", "x" * 5_000, "$task", "$ended", "%00", "%2e%2e", "..", "%ff", "%ED%A0%80"],
        *["a%2Fb", ":cancel", "%25", "%E2%80%AE"],
    ]
)
ids = _ids | st.text(max_size=10).map(lambda text: quote(text, safe=""))
prefixes = st.sampled_from(
    ["/a2a/echo/", "/a2a/echo/echo/", "/", "/echo/", "/a2a/%00/", "/a2a/x/", "/a2a/echo//", "/a2a/echo/%FF/"]
)
_NAMES = "historyLength history_length pageSize pageToken status statusTimestampAfter includeArtifacts contextId id"
names = st.sampled_from([*_NAMES.split(), "A2A-Version", "tenant", "%00"])
values = (text | numbers.map(str) | BY_NAME["page_token"] | instants).map(lambda text: quote(text[:3_000], safe=""))
_OF_0_3 = [("GET", "v1/tasks/{id}"), ("DELETE", "v1/tasks/{taskId}/pushNotificationConfigs/{id}"), ("GET", "v1/card")]
known = st.sampled_from([*PATHS.values(), ("GET", "tasks/{id}:subscribe"), *_OF_0_3])


@st.composite
def paths(draw: DrawFn) -> tuple[str, str]:
    """A verb, and a percent-encoded path with its query."""
    verb, path = draw(known)
    verb = draw(st.sampled_from([*[verb] * 8, "GET", "POST", "PUT", "DELETE"]))
    query = draw(st.lists(st.builds("{}={}".format, names, values), max_size=3))
    return verb, f"{draw(prefixes)}{path.format(id=draw(ids), taskId=draw(ids))}?{'&'.join(query)}"


_MESSAGE = {"message": {"messageId": "$new", "role": "ROLE_USER", "parts": [{"text": "x"}]}}
_SEND = jsonrpc("SendMessage", _MESSAGE).body.encode()
#: What headers are tried on: (verb, path, body).
REQUESTS = [
    *[("POST", path, _SEND) for path in ("/a2a/echo/", "/", "/a2a/echo")],
    ("POST", "/a2a/echo/message:stream", json.dumps(_MESSAGE).encode()),
    *[("GET", f"/a2a/echo/{path}", b"") for path in ("tasks/$task", "tasks/$task:subscribe", "extendedAgentCard")],
    *[("GET", f"/a2a/echo/{path}", b"") for path in (".well-known/agent-card.json", "v1/card", "nothing")],
    *[
        ("GET", path, b"")
        for path in ("/.well-known/agent.json", "/.well-known/jwks.json", "/a2a/echo", "/healthz", "/")
    ],
]
#: What HTTP allows in a header (RFC 9110, section 5.5); servers refuse the rest before us.
_any = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
_BAD_DATES = [
    *["x", " ", ",", "0:0:0", "1 2 3 4 5 6 7", "Mon, 99 Jan 2026 00:00:00 GMT", "Mon, 01 Jan 99999999 00:00:00 GMT"],
    *["Mon, 01 Jan 2026 00:00:00 +99999999999999999999", "Mon, 01 Jan 0001 00:00:00 +2359"],
]
_SAID = {
    "a2a_version": ["1.0", "0.3", "", "1", "1.0.0.0", "\xff", "1" * 5_000],
    "a2a_extensions": [EXTENSION, ",", f"{EXTENSION},{EXTENSION}", "\xff", "x" * 5_000],
    "last_event_id": ["0", "1", "-1", "9" * 20, "9" * 5_000, "2147483648", "\xb2", "1.0"],
    "authorization": ["Bearer", "Bearer a2a_", "Bearer a2a_x_y", "Basic eDp5", "Bearer a.b.c", "Bearer \xff"],
    "x_api_key": ["a2a_x_y", "\xff", "x" * 5_000],
    "host": ["localhost:", "localhost:[", "localhost:99999", "localhost:\xbd", "localhost:/?#@", "", "["],
    "content_type": ["application/a2a+json;charset=x", "text/plain", "", "application/json/", "\xff"],
    "accept": ["application/json", "*/*", "text/event-stream", ""],
    "if_none_match": ["*", "W/", ","],
    "if_modified_since": _BAD_DATES,
    "x_forwarded_for": [""],
}
headers = st.fixed_dictionaries({}, optional={name: st.sampled_from(said) | _any for name, said in _SAID.items()})
