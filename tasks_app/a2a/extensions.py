"""Extensions of A2A: what an agent declares, what a request asks for, what is answered (A2A 1.0, sections 3.2.6, 4.6).

Our own one is in ``extension``.
"""

from __future__ import annotations

from collections.abc import Iterable

from a2a.extensions.common import HTTP_EXTENSION_HEADER, get_requested_extensions

from tasks_app.a2a import extension
from tasks_app.a2a.errors import ExtensionSupportRequiredError
from tasks_app.agents import AgentSpec, Extension

#: Where requests name extensions, and answers those that were activated; the second is A2A 0.3's.
HEADERS = (HTTP_EXTENSION_HEADER, f"X-{HTTP_EXTENSION_HEADER}")
OURS = Extension(uri=extension.URI, description=extension.DESCRIPTION)


def declared(spec: AgentSpec) -> tuple[Extension, ...]:
    """Those of the agent's card: ours, and its own."""
    return (OURS, *spec.extensions)


def activated(spec: AgentSpec, values: Iterable[str]) -> list[str]:
    """The URIs that a request asks for and the agent supports, in the card's order; unknown ones are ignored.

    ``values`` are those of the header, or of gRPC's metadata, under either name; each may list several with commas.
    """
    requested = get_requested_extensions(list(values))
    return [each.uri for each in declared(spec) if each.uri in requested]


def check_required(spec: AgentSpec, values: Iterable[str]) -> None:
    """Raises ExtensionSupportRequiredError naming what a request had to ask for and did not."""
    if not spec.extensions:
        return
    requested = get_requested_extensions(list(values))
    missing = [each.uri for each in declared(spec) if each.required and each.uri not in requested]
    if missing:
        text = f"{HTTP_EXTENSION_HEADER}: must name {', '.join(missing)}"
        raise ExtensionSupportRequiredError(text, data={"extensions": ",".join(missing)})


def echoed(uris: Iterable[str]) -> dict[str, str]:
    """The headers of an answer that name what was activated; none for nothing."""
    text = ", ".join(uris)
    return dict.fromkeys(HEADERS, text) if text else {}
