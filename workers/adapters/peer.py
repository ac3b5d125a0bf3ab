"""The connection to one remote agent: its card, the SDK's client for what the card offers, and our credentials."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import Client, ClientCallContext
from a2a.client.errors import A2AClientTimeoutError
from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.types import AgentCard
from a2a.utils.constants import TransportProtocol

from tasks_app.a2a import extension
from tasks_app.agents import AgentError
from workers.adapters.remote import Remote

log = logging.getLogger(__name__)

BINDINGS = [binding.value for binding in TransportProtocol]
CONNECT_S = 10.0
#: The longest that an answer may take; of a stream, the longest that it may be silent.
ANSWER_S, SILENCE_S = 30.0, 60.0
#: The longest that a call waits for a card to be read again; and how long after a failure that is tried again.
PATIENCE_S, AGAIN_S = 2.0, 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_Loop = asyncio.AbstractEventLoop
_peers: WeakKeyDictionary[_Loop, dict[Remote, Peer]] = WeakKeyDictionary()


def peer_of(remote: Remote) -> Peer:
    """This event loop's connection to the agent, which all its tasks share."""
    peers = _peers.setdefault(asyncio.get_running_loop(), {})
    if remote not in peers:
        peers[remote] = Peer(remote)
    return peers[remote]


class Peer:
    """Asks one remote agent."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        # As many streams as tasks; no redirects, which could lead credentials to somebody else.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        self._http = httpx.AsyncClient(limits=limits, timeout=timeout, follow_redirects=False)
        self._client: Client | None = None
        self._card = AgentCard()
        #: When the card is to be read again, by the monotonic clock; the read that is under way, and its beginning.
        self._due_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._began_at = 0.0

    async def client(self) -> Client:
        """The SDK's client. While there is none, all that ask wait for one read of the card, and share its failure.

        The card is read again after its time. If that takes long or fails the client that is known is used.
        """
        now = time.monotonic()
        if self._reading is None and now >= self._due_at:
            self._began_at = now
            self._reading = asyncio.create_task(self._refresh())
        if self._client is None and self._reading is not None:
            await asyncio.shield(self._reading)
        elif self._reading is not None:
            await asyncio.wait([self._reading], timeout=max(0.0, self._began_at + PATIENCE_S - now))
        assert self._client is not None  # noqa: S101 (narrows the type)
        return self._client

    @property
    def streams(self) -> bool:
        return bool(self._card.capabilities.streaming)

    @property
    def is_ours(self) -> bool:
        """Whether it knows the options of a task that our extension of A2A carries."""
        return any(known.uri == extension.URI for known in self._card.capabilities.extensions)

    def call(self, *, timeout_s: float = ANSWER_S) -> ClientCallContext:
        """What goes with each request. Raises AgentError for credentials that are not there."""
        extensions = [with_a2a_extensions(list(self._remote.extensions))]
        headers = ServiceParametersFactory.create_from(self._credentials(), extensions)
        return ClientCallContext(service_parameters=headers, timeout=timeout_s)

    async def close(self) -> None:
        """Closes its connections over HTTP. For a loop that ends; a worker's peers live as long as its process."""
        await self._http.aclose()

    async def _refresh(self) -> None:
        try:
            self._use(await self._read())
            self._due_at = time.monotonic() + self._remote.card_ttl_s
        except Exception as error:
            if self._client is None:
                raise
            self._due_at = time.monotonic() + AGAIN_S
            log.warning("%s: its card cannot be used, so the one before is: %r", self._remote.url, error)
        finally:
            self._reading = None

    def _use(self, card: AgentCard) -> None:
        if self._client is not None and card == self._card:
            return
        usable = AgentCard.FromString(card.SerializeToString())
        del usable.supported_interfaces[:]
        usable.supported_interfaces.extend(each for each in card.supported_interfaces if self._may_use(each.url))
        if card.supported_interfaces and not usable.supported_interfaces:
            raise AgentError("the remote agent's card names none of its hosts", code="remote_misconfigured")
        config = ClientConfig(
            httpx_client=self._http, grpc_channel_factory=_channel, supported_protocol_bindings=BINDINGS
        )
        config.polling = not card.capabilities.streaming
        try:
            self._client = ClientFactory(config).create(usable)
        except ValueError as error:
            raise AgentError(f"the remote agent cannot be asked: {error}", code="remote_misconfigured") from error
        self._card = card

    async def _read(self) -> AgentCard:
        url = self._remote.url
        resolver = A2ACardResolver(self._http, url, "") if url.endswith(".json") else A2ACardResolver(self._http, url)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await resolver.get_agent_card(http_kwargs={"headers": self._credentials()})
        except TimeoutError as error:
            raise A2AClientTimeoutError("its card did not come in time") from error

    def _may_use(self, url: str) -> bool:
        """Whether it may be asked at this address: of a host that is declared, and as safe as that.

        Its card could lead us anywhere else, with our credentials or without.
        """
        ours, theirs = urlsplit(self._remote.url), urlsplit(url if "://" in url else f"//{url}")
        is_safe = ours.scheme == "http" or theirs.scheme not in ("http", "grpc")
        return is_safe and theirs.hostname in (ours.hostname, *self._remote.hosts)

    def _credentials(self) -> dict[str, str]:
        """Read anew each time, since secrets are rotated."""
        found = {name: _variable(variable) for name, variable in self._remote.headers_from}
        if self._remote.bearer_from:
            found["Authorization"] = f"Bearer {_variable(self._remote.bearer_from)}"
        return found


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise AgentError(
            f"the variable {name} with the remote agent's credentials is empty", code="remote_misconfigured"
        )
    return value


def _channel(url: str) -> Any:
    """A gRPC channel: without TLS only where the address says so, or to this machine."""
    import grpc.aio

    parts = urlsplit(url if "://" in url else f"//{url}")
    if parts.scheme in ("http", "grpc") or (not parts.scheme and parts.hostname in LOOPBACK):
        return grpc.aio.insecure_channel(parts.netloc)
    return grpc.aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials())
