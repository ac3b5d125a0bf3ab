"""The way to a remote agent while its card can be read, cannot, or says something else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from a2a.client.errors import AgentCardResolutionError

from tasks_app.agents import AgentError
from workers.adapters import peer
from workers.adapters.peer import Peer
from workers.adapters.remote import Remote


class Host:
    """Serves a card, or none: then it is silent until it hangs up."""

    def __init__(self) -> None:
        self.card: dict[str, Any] | None = None
        self.asked = 0
        self.was_asked, self.hangs_up = asyncio.Event(), asyncio.Event()
        self.url = ""

    def names(self, address: str) -> None:
        """Its card names this address from now on."""
        interface = {"url": address, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        self.card = {"name": "a", "description": "a", "version": "1", "supportedInterfaces": [interface]}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        self.was_asked.set()
        if self.card is None:
            await self.hangs_up.wait()
        else:
            body = json.dumps(self.card).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()


@pytest_asyncio.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    made.names(made.url)
    yield made
    made.hangs_up.set()
    server.close()


async def test_all_that_wait_for_a_card_share_one_read_and_its_failure(host: Host) -> None:
    host.card = None
    asking = Peer(Remote(url=host.url))
    calls = [asyncio.ensure_future(asking.client()) for _ in range(5)]
    await host.was_asked.wait()
    host.hangs_up.set()
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(failure, AgentCardResolutionError) for failure in failures), failures
    assert host.asked == 1
    host.names(host.url)
    assert await asking.client()


async def test_a_call_does_not_wait_long_for_a_card_that_is_read_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host is silent, while the agent itself may be well: the client that is known is used."""
    monkeypatch.setattr(peer, "PATIENCE_S", 0.01)
    asking = Peer(Remote(url=host.url, card_ttl_s=0))
    known = await asking.client()
    host.card = None
    assert [await asking.client() for _ in range(5)] == [known] * 5
    assert host.asked == 2


@pytest.mark.parametrize("says", [{}, {"name": 7}, {"supportedInterfaces": [{"url": "x", "protocolBinding": "SMOKE"}]}])
async def test_a_client_that_is_known_is_kept_when_its_card_cannot_be_used_any_more(
    host: Host, says: dict[str, Any]
) -> None:
    asking = Peer(Remote(url=host.url, card_ttl_s=0))
    known = await asking.client()
    host.card = says
    assert [await asking.client() for _ in range(3)] == [known] * 3
    assert host.asked == 2, "after a failure it is not read at every call"


async def test_a_card_that_says_something_else_is_followed(host: Host) -> None:
    asking = Peer(Remote(url=host.url, card_ttl_s=0))
    known = await asking.client()
    assert await asking.client() is known
    host.names(f"{host.url}other/")
    assert await asking.client() is not known


async def test_a_card_leads_to_no_other_host(host: Host) -> None:
    """Whether or not we hold credentials for it: it may name any address of an inner network."""
    host.names("http://169.254.169.254/latest/")
    with pytest.raises(AgentError, match="none of its hosts"):
        await Peer(Remote(url=host.url)).client()
    assert await Peer(Remote(url=host.url, hosts=("169.254.169.254",))).client()
