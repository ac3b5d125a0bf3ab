"""Submits one task per text and shows how all of them go on at once.

Their events come by streams, which are resumed where they break; or by a webhook, with --webhook. The server must be
allowed to send there (A2A_PUSH_ALLOWED), and its operator issues the secret that signs (manage.py a2a webhook-secret).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from examples.streaming import streams
from examples.streaming.followed import Followed, Gap
from examples.streaming.webhook import receiver

TEXTS = ("1000000", "2000000", "3000000", "5000000")
Changed = Callable[[Followed], None]

console = Console(highlight=False)


def main() -> int:
    """0 if all tasks completed, else 1; 2 for bad arguments, 130 for Ctrl-C, after which the tasks go on."""
    options = _arguments()
    try:
        return asyncio.run(_run(options))
    except httpx.ConnectError as error:
        return _failed(f"Nobody answers at {options.connect}: {error}")
    except TimeoutError:
        return _failed(f"Not over within {options.timeout:g} s; the tasks go on.")
    except (streams.Refused, Gap, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return _failed(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.streaming", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="*", default=TEXTS, metavar="TEXT", help="what to say: a task for each")
    parser.add_argument("--connect", metavar="URL", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--agent", default="primes", help="default: %(default)s")
    parser.add_argument("--api-key", default=os.environ.get("A2A_API_KEY", ""), help="default: $A2A_API_KEY")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=600, help="default: %(default)s")
    parser.add_argument("--webhook", metavar="URL", help="listen here instead: http://127.0.0.1:9000")
    parser.add_argument(
        "--webhook-secret", default=os.environ.get("A2A_WEBHOOK_SECRET"), help="default: $A2A_WEBHOOK_SECRET"
    )
    options = parser.parse_args()
    if options.webhook and not options.webhook_secret:
        parser.error("--webhook needs the secret that signs: --webhook-secret or A2A_WEBHOOK_SECRET")
    return options


async def _run(options: argparse.Namespace) -> int:
    tasks = [Followed(text=text) for text in options.texts]
    with _progress() as progress:
        bars = {id(task): progress.add_task(task.text, total=1.0, said="") for task in tasks}

        def changed(task: Followed) -> None:
            progress.update(bars[id(task)], completed=task.progress, said=f"{task.state} {task.said}")

        async with asyncio.timeout(options.timeout), _connected(options) as http:
            if options.webhook:
                await _by_webhook(http, tasks, changed, url=options.webhook, secret=options.webhook_secret)
            else:
                await _by_streams(http, tasks, changed)
    for task in tasks:
        size = sum(map(len, task.artifacts.values()))
        again = f", resumed {task.resumed} times" if task.resumed else ""
        line = f"{task.text}: {task.state} {task.said}: events 1-{task.generation}, {size} characters{again}"
        console.print(line, markup=False, soft_wrap=True)
    return 0 if all(task.state == "completed" for task in tasks) else 1


def _connected(options: argparse.Namespace) -> httpx.AsyncClient:
    return streams.connected(options.connect, options.agent, options.api_key)


async def _by_streams(http: httpx.AsyncClient, tasks: Sequence[Followed], changed: Changed) -> None:
    async def one(task: Followed) -> None:
        await streams.submit(http, task)
        await streams.follow(http, task, changed)

    await asyncio.gather(*map(one, tasks))


async def _by_webhook(
    http: httpx.AsyncClient, tasks: Sequence[Followed], changed: Changed, *, url: str, secret: str
) -> None:
    """Each task has an address of its own below the URL, by its number."""
    loop = asyncio.get_running_loop()

    async def take(number: int, event: dict[str, Any]) -> None:
        tasks[number].take(event)
        changed(tasks[number])

    def wait(number: int, event: dict[str, Any]) -> None:
        asyncio.run_coroutine_threadsafe(take(number, event), loop).result()

    with receiver(url, secret, wait):
        for number, task in enumerate(tasks):
            await streams.submit(http, task, webhook={"url": f"{url.rstrip('/')}/{number}"})
        for task in tasks:
            await task.over.wait()


def _progress() -> Progress:
    text, said = TextColumn("{task.description:>10}", markup=False), TextColumn("{task.fields[said]}", markup=False)
    return Progress(text, BarColumn(40), TimeElapsedColumn(), said, console=console, transient=True)


def _failed(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
