"""What is on record of a message to a remote agent, so that the next attempt goes on and does not send it again."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, replace

from workers.context import Context

CHECKPOINT = "remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The checkpoint: what was sent, or is about to be.

    ``turn`` is the turn whose message that was, ``round`` counts how often the first was begun anew at the remote.
    ``task_id`` and ``context_id`` are the remote's, empty until it has said them; ``accepted``: it has the message.
    """

    turn: int = 0
    round: int = 0
    task_id: str = ""
    context_id: str = ""
    accepted: bool = False

    @classmethod
    def of(cls, ctx: Context) -> Sent:
        """As earlier attempts and turns left it."""
        return cls(**ctx.checkpoints.get(CHECKPOINT, {}))

    def note(self, ctx: Context) -> None:
        """Puts it on record, if that may still be done."""
        if not ctx.told_to_stop:
            ctx.checkpoint(CHECKPOINT, asdict(self))

    def about_to(self, ctx: Context) -> Sent:
        """Before the message of this turn is sent."""
        return replace(self, turn=ctx.turn, accepted=False)

    def known_as(self, ctx: Context, task_id: str, context_id: str) -> Sent:
        """Once the remote has said which task of its it is."""
        return replace(self, turn=ctx.turn, task_id=task_id, context_id=context_id, accepted=True)

    def message_id(self, ctx: Context) -> str:
        """The same in every attempt of a turn, unless the remote's task has ended without success."""
        return _name(f"{ctx.idempotency_key}:{self.round}")

    def context(self, ctx: Context) -> str:
        """The remote's; until it is known, one for this context of this client: others may have named one alike."""
        return self.context_id or _name(f"{ctx.client}:{ctx.context_id}")


def _name(text: str) -> str:
    """An id that is the same for the same text."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"a2a-task-manager:{text}"))
