"""Declares an A2A agent elsewhere as an agent of this server, which then queues, limits and retries in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from a2a.types import Message

from tasks_app.agents import Extension, agent
from tasks_app.status import Lane

if TYPE_CHECKING:
    from workers.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where a remote agent is, and how it is asked.

    ``url`` is its base address, or that of its card if it ends in ``.json``. ``bearer_from`` and ``headers_from`` name
    the environment variables that hold a bearer token, and the values of these headers. Whatever its card says, it is
    asked at the host of ``url`` and at ``hosts`` only. ``extensions`` are the URIs that each request names.
    ``card_ttl_s`` is after how many seconds a card is read again.
    """

    url: str
    bearer_from: str = ""
    headers_from: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    card_ttl_s: float = 300.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{self.url}' is no address of an agent: it looks like https://agents.example/scan/")
        if parts.username or parts.password:
            raise ValueError("credentials do not belong into the address: see bearer_from and headers_from")


#: Those that are declared, by the name of the agent.
REMOTES: dict[str, Remote] = {}


def remote_agent(
    name: str,
    *,
    url: str,
    description: str,
    bearer_from: str = "",
    headers_from: dict[str, str] | None = None,
    hosts: tuple[str, ...] = (),
    card_ttl_s: float = 300.0,
    **options: Any,
) -> None:
    """Registers the A2A agent at ``url``; see :class:`Remote`. It runs in the io lane.

    ``options`` are the fields of :class:`~tasks_app.agents.AgentSpec`; the remote's card is not asked for any of them,
    as it may be away. Each request names the ``extensions`` that are declared. Raises ``ValueError`` for an address
    that is none.
    """
    declared: tuple[Extension, ...] = options.get("extensions", ())
    remote = Remote(
        url=url,
        bearer_from=bearer_from,
        headers_from=tuple((headers_from or {}).items()),
        hosts=hosts,
        extensions=tuple(extension.uri for extension in declared),
        card_ttl_s=card_ttl_s,
    )

    async def handle(ctx: Context) -> Message | None:
        from workers.adapters import conversation  # the SDK's client, which no other process needs

        return await conversation.run(ctx, remote)

    handle.__qualname__ = f"remote_agent({url})"  # two agents of a name are told apart by it
    agent(name, lane=Lane.IO, description=description, **{"takes_urls": True, **options})(handle)
    REMOTES[name] = remote
