"""Submits tasks over A2A's HTTP+JSON binding and follows their streams, resuming those that break."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import httpx
from httpx_sse import aconnect_sse

from examples.streaming.followed import Followed

#: So often in a row a stream may break without an event in between: about half a minute.
FAILURES_MAX = 12
WAIT_MAX_S = 5.0
#: A server sends a comment every 15 seconds where nothing happens: silence for longer is a broken connection.
TIMEOUT = httpx.Timeout(10, read=45)


class Refused(Exception):
    """The server does not do what was asked, and says why."""


def connected(base_url: str, agent: str, api_key: str) -> httpx.AsyncClient:
    """An HTTP client whose paths are below the agent's address. Any number of streams may be open at once."""
    headers = {"A2A-Version": "1.0"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    address = f"{base_url.rstrip('/')}/a2a/{agent}/"
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=address, headers=headers, timeout=TIMEOUT, limits=limits)


async def submit(http: httpx.AsyncClient, task: Followed, *, webhook: dict[str, Any] | None = None) -> None:
    """Makes the task; does not wait for it. Raises :class:`Refused` or httpx.HTTPError."""
    message = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": task.text}]}
    configuration = {"returnImmediately": True, **({"taskPushNotificationConfig": webhook} if webhook else {})}
    reply = await http.post("/message:send", json={"message": message, "configuration": configuration})
    if reply.is_error:
        raise Refused(_why(reply))
    answer = reply.json()
    if "task" not in answer:
        raise Refused("the agent replies with a message, of which there is no stream")
    task.id = answer["task"]["id"]
    task.take(answer)


async def follow(http: httpx.AsyncClient, task: Followed, changed: Callable[[Followed], None]) -> None:
    """Takes every event of the task until it is over, whatever becomes of the connection.

    Raises :class:`Refused`, or httpx.HTTPError when the server stays away.
    """
    failures = 0
    while not task.over.is_set():
        try:
            async with aclosing(events(http, task)) as stream:
                async for event in stream:
                    task.take(event)
                    changed(task)
                    failures = 0
                    if task.over.is_set():  # the stream of a task that asks stays open
                        return
        except httpx.HTTPError:
            failures += 1
            if failures > FAILURES_MAX:
                raise
            await asyncio.sleep(random.uniform(0, min(WAIT_MAX_S, 0.1 * 2**failures)))  # noqa: S311 (full jitter)
        # A server that is told to stop ends its streams properly, before their tasks have ended.
        task.resumed += not task.over.is_set()


async def events(http: httpx.AsyncClient, task: Followed) -> AsyncGenerator[dict[str, Any]]:
    """Those after the last one that the task has taken: the id of an event is its generation."""
    headers = {"Last-Event-ID": str(task.generation)}
    async with aconnect_sse(http, "GET", f"/tasks/{task.id}:subscribe", headers=headers) as source:
        if source.response.is_server_error:  # of a proxy whose server is away
            source.response.raise_for_status()
        if source.response.is_error:
            await source.response.aread()
            raise Refused(_why(source.response))
        async for event in source.aiter_sse():
            if event.data:  # httpx-sse takes a comment, which keeps the connection open, for an event without data
                yield event.json()


def _why(reply: httpx.Response) -> str:
    """The server's own words, if these are."""
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status_code} from {reply.request.url}"
