"""The search box of the task list: ``agent:imaging state:failed 0193ab12``. Every word narrows."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

from django.db.models import Q

from tasks_app import agents
from tasks_app.models import Client
from tasks_app.status import Priority, TaskStatus

#: This much of an id is taken for one; shorter words are names.
PREFIX_MIN = 6
NOTHING = Q(pk__in=[])
_HEX = re.compile(r"[0-9a-f]+")


def query(text: str) -> Q:
    """The condition that the words of ``text`` make together; a word that can mean nothing finds nothing."""
    found = Q()
    for word in text.split():
        key, colon, value = word.partition(":")
        qualifier = QUALIFIERS.get(key.lower()) if colon else None
        found &= qualifier(value) if qualifier else _bare(word)
    return found


def id_range(prefix: str) -> tuple[UUID, UUID] | None:
    """The smallest and the largest id that start so; None if no id can."""
    digits = prefix.replace("-", "").lower()
    if not _HEX.fullmatch(digits) or len(digits) > 32:
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def exact_id(text: str) -> UUID:
    """The id that an address names; the nil id, which nothing has, if it names none."""
    try:
        return UUID(text)
    except ValueError:
        return UUID(int=0)


def _bare(word: str) -> Q:
    if word in agents.registered():
        return Q(agent=word)
    bounds = id_range(word) if len(word) >= PREFIX_MIN else None
    if bounds is None:
        # Not also an agent that is no longer registered: no index finds one, so only ``agent:`` asks for it.
        return _context(word)
    return Q(id__range=bounds) | _context(word)


def _context(word: str) -> Q:
    # The index is by client and context: naming every client lets it serve the search.
    return Q(context_id=word, client_id__in=list(Client.objects.values_list("id", flat=True)))


def _id(word: str) -> Q:
    bounds = id_range(word)
    return Q(id__range=bounds) if bounds else NOTHING


def _batch(word: str) -> Q:
    """Of those that hold a place of the batch."""
    return Q(batch_id=exact_id(word), batch_index__isnull=False)


def _state(word: str) -> Q:
    return Q(status=word.lower()) if word.lower() in TaskStatus.values else NOTHING


def _priority(word: str) -> Q:
    try:
        return Q(priority=Priority.parse(word))
    except ValueError:
        return NOTHING


QUALIFIERS: dict[str, Callable[[str], Q]] = {
    "agent": lambda word: Q(agent=word),
    "batch": _batch,
    "client": lambda word: Q(client_id__in=list(Client.objects.filter(name=word).values_list("id", flat=True))),
    "context": _context,
    "id": _id,
    "lane": lambda word: Q(lane=word.lower()),
    "priority": _priority,
    "state": _state,
    "status": _state,
}
