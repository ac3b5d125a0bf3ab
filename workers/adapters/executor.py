"""Declares an a2a-sdk ``AgentExecutor`` as an agent, by the dotted path of it. Nothing of it is changed."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from a2a.types import AgentCard, Message
from django.utils.module_loading import import_string

from tasks_app.agents import Skill, agent
from tasks_app.status import Lane

if TYPE_CHECKING:
    from a2a.server.agent_execution import AgentExecutor

    from workers.context import Context


def executor_agent(
    name: str, *, executor: str, lane: str | Lane = Lane.IO, card: AgentCard | None = None, **options: Any
) -> None:
    """Registers an executor of the a2a-sdk as an agent.

    ``executor`` is ``package.module:Name``, of a class or another callable that makes one without arguments, or of an
    executor; each worker process makes and keeps one. What ``options``, the fields of
    :class:`~tasks_app.agents.AgentSpec`, do not say is taken from the SDK's ``card``. In the io lane all executors
    share one event loop; one that blocks belongs into the cpu lane, where each run has a loop of its own.
    """
    one, lane = _One(executor), Lane(lane)

    async def handle(ctx: Context) -> Message | None:
        from workers.adapters import execution  # the SDK's server, which no other process needs

        return await execution.run(ctx, await one.get(), watched=lane is Lane.CPU)

    handle.__qualname__ = f"executor_agent({executor})"  # two agents of a name are told apart by it
    fields = {"takes_urls": True, **_described(card), **options}
    agent(name, lane=lane, **fields)(handle)


class _One:
    """The executor of this process: made once, when it is first needed, on a thread, as it may import much."""

    def __init__(self, path: str) -> None:
        self._path = path.replace(":", ".")
        self._lock = threading.Lock()
        self._made: AgentExecutor | None = None

    async def get(self) -> AgentExecutor:
        if self._made is None:
            return await asyncio.to_thread(self._get)
        return self._made

    def _get(self) -> AgentExecutor:
        with self._lock:
            self._made = made = self._made or self._make()
            return made

    def _make(self) -> AgentExecutor:
        from a2a.server.agent_execution import AgentExecutor

        found = import_string(self._path)
        made = found if isinstance(found, AgentExecutor) else found()
        if not isinstance(made, AgentExecutor):
            raise TypeError(f"{self._path} makes a {type(made).__name__}, which is no AgentExecutor")
        return made


def _described(card: AgentCard | None) -> dict[str, Any]:
    """What a card says of an agent, as fields of an AgentSpec."""
    if card is None:
        return {}
    said = {
        "description": card.description,
        "version": card.version,
        "input_modes": tuple(card.default_input_modes),
        "output_modes": tuple(card.default_output_modes),
        "skills": tuple(
            Skill(
                id=skill.id,
                name=skill.name,
                description=skill.description,
                tags=tuple(skill.tags),
                examples=tuple(skill.examples),
            )
            for skill in card.skills
        ),
    }
    return {name: value for name, value in said.items() if value}
