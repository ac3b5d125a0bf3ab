"""Says whether a running instance serves the agents of this example, and where: reads their cards.

Serve them with A2A_AGENTS=examples.server.agents make up
"""

from __future__ import annotations

import argparse
import sys

import httpx

NAMES = ("book", "primes", "word-count")


def main() -> int:
    """0 if all are served, 1 if one is not or nobody answers."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connect", metavar="URL", default="http://127.0.0.1:8000", help="default: %(default)s")
    base_url = parser.parse_args().connect.rstrip("/")
    try:
        with httpx.Client(timeout=10) as client:
            served = [_show(client, f"{base_url}/a2a/{name}/") for name in NAMES]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        print(f"Nobody answers at {base_url}: {error}", file=sys.stderr)
        return 1
    return 0 if all(served) else 1


def _show(client: httpx.Client, address: str) -> bool:
    """Whether an agent is at the address."""
    reply = client.get(f"{address}.well-known/agent-card.json")
    if reply.status_code != 200:
        hint = "is A2A_AGENTS=examples.server.agents set there?"
        print(f"No agent at {address} (HTTP {reply.status_code}); {hint}", file=sys.stderr)
        return False
    card = reply.json()
    print(f"{card['name']}: {card['description']} {address}")
    return True


if __name__ == "__main__":
    sys.exit(main())
