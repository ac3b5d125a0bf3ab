"""Three agents. Served by ``A2A_AGENTS=examples.server.agents make up``."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from tasks_app.agents import AgentError, Skill, agent
from workers.adapters import executor_agent

if TYPE_CHECKING:
    from workers.context import Context

LIMIT_MAX = 5_000_000
#: So many numbers at least, and so many pieces at most, of an artifact.
PIECE_MIN, PIECES = 1_000, 20
A_TIME = re.compile(r"\b([01]?\d|2[0-3]):[0-5]\d\b")


@agent(
    "book",
    lane="io",
    description="Books a table, and asks for what it was not told.",
    skills=(Skill(id="book", name="Book", description="Books a table.", examples=("A table for 4.",)),),
)
async def book(ctx: Context) -> str:
    """Each message is a turn: this is called again, and finds in the checkpoints what the turns before have heard."""
    if "guests" not in ctx.checkpoints:
        guests = re.search(r"\d+", ctx.text)
        if guests is None:
            ctx.require_input("For how many?")
        ctx.checkpoint("guests", int(guests[0]))
        ctx.require_input("At what time?")
    at = A_TIME.search(ctx.text)
    if at is None:
        ctx.require_input("At what time? For example 19:30.")
    return f"A table for {ctx.checkpoints['guests']} at {at[0]}."


@agent(
    "primes",
    lane="cpu",
    description="Finds all primes up to a number, and sends them as it finds them.",
    skills=(Skill(id="primes", name="Primes", description="Lists primes.", examples=("100000",)),),
)
def primes(ctx: Context) -> None:
    """One artifact in pieces. If its worker dies, the next attempt goes on from the last checkpoint."""
    limit = _limit(ctx.text)
    name = f"primes up to {limit}"
    first, step = ctx.checkpoints.get(name, 2), max(PIECE_MIN, math.ceil(limit / PIECES))
    while first <= limit:
        end = min(first + step, limit + 1)
        piece = "".join(f"{number}\n" for number in _primes(first, end))
        ctx.artifact(piece, name=name, append=True, last_chunk=end > limit)
        ctx.progress((end - 1) / limit, f"up to {end - 1}")
        ctx.checkpoint(name, end)
        first = end


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 2 <= int(text) <= LIMIT_MAX):
        raise AgentError(f"the text must be a number from 2 to {LIMIT_MAX}", code="not_a_limit")
    return int(text)


def _primes(first: int, end: int) -> list[int]:
    """Those from ``first`` to before ``end``, by the sieve of Eratosthenes."""
    may_be = bytearray(b"\x01") * (end - first)
    for number in range(2, math.isqrt(end - 1) + 1):
        multiples = range(max(number * number, -(-first // number) * number), end, number)
        if multiples:
            may_be[multiples[0] - first :: number] = bytes(len(multiples))
    return [first + index for index, is_prime in enumerate(may_be) if is_prime]


executor_agent(
    "word-count",
    executor="examples.server.executors:WordCount",
    description="Counts words.",
    skills=(Skill(id="count", name="Count", description="Counts words.", examples=("To be or not to be",)),),
)
