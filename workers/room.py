"""Whether this worker has room for the sized tasks it claims; what it has not room for it gives back."""

from __future__ import annotations

from tasks_app import agents
from tasks_app.engine import Claim, Lost, Offer
from tasks_app.models import Outcome
from tasks_app.policies import BOUNDLESS, Resources
from workers.node import Node


def offer(here: Node) -> Offer:
    """What the worker can run now."""
    return Offer(agents=tuple(agents.registered()), free=left(here.capacity, here.running.in_use()))


def left(capacity: Resources, used: Resources) -> Resources:
    """What is free of a capacity; of what that does not say, as much as anybody may ask for."""
    return Resources(
        memory_mb=max(0, capacity.memory_mb - used.memory_mb) if capacity.memory_mb else BOUNDLESS.memory_mb,
        cores=max(0.0, capacity.cores - used.cores) if capacity.cores else BOUNDLESS.cores,
        disk_mb=max(0, capacity.disk_mb - used.disk_mb) if capacity.disk_mb else BOUNDLESS.disk_mb,
    )


def overfull(here: Node, claim: Claim) -> Lost | None:
    """How to give a claim back that two children made at once for the same room; None if it fits.

    To be asked once the attempt is on record here: each of the two then sees the other.
    """
    sized = claim.resources
    if not (sized.memory_mb or sized.cores or sized.disk_mb):
        return None
    if within(here.running.in_use(), here.capacity):
        return None
    message = "its worker had less free than it needs"
    return Lost(attempt_id=claim.attempt_id, outcome=Outcome.NO_ROOM, code="no_room", message=message, spend=False)


def within(used: Resources, capacity: Resources) -> bool:
    """Whether what runs is within this capacity; what that does not say has no end."""
    pairs = [(used.memory_mb, capacity.memory_mb), (used.cores, capacity.cores), (used.disk_mb, capacity.disk_mb)]
    return all(have == 0 or use <= have for use, have in pairs)
