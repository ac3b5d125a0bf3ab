"""Asks an agent, prints what it answers, and goes on as long as it asks back. Ctrl-C cancels the task.

The answer goes to the standard output, all else to the standard error; what is said next is read from the standard
input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Any

import httpx
from a2a.client import AgentCardResolutionError
from a2a.types import TaskState
from a2a.utils.errors import A2AError

from examples.client.conversation import Conversation

ASKS = (TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED)


def main() -> int:
    """0 for a task that completed, 130 for one that Ctrl-C cancelled, else 1; 2 for bad arguments."""
    options = _arguments()
    address = f"{options.connect.rstrip('/')}/a2a/{options.agent}/"
    with asyncio.Runner() as runner:
        talk = Conversation(address, api_key=options.api_key, task_id=options.task, tell=_tell)
        try:
            runner.run(talk.connect())
            return _converse(runner, talk, options)
        except KeyboardInterrupt:
            _cancel(runner, talk)
            return 130
        except AgentCardResolutionError as error:
            _tell(_first_line(error) if error.status_code else f"Nobody answers at {options.connect}: {error}")
        except (A2AError, httpx.HTTPError, httpx.InvalidURL) as error:
            _tell(f"error: {_first_line(error)}" + (f"; the task is {talk.task_id}" if talk.task_id else ""))
        finally:
            runner.run(talk.close())
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.client", description=__doc__)
    parser.add_argument("text", help="what to say to it")
    parser.add_argument("--connect", metavar="URL", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--agent", default="echo", help="default: %(default)s")
    parser.add_argument("--task", metavar="ID", default="", help="say it to this task, which waits for an answer")
    parser.add_argument("--parameters", metavar="JSON", type=_object, help="the agent's parameters, as a JSON object")
    parser.add_argument("--priority", choices=("critical", "high", "normal", "low"))
    parser.add_argument("--api-key", default=os.environ.get("A2A_API_KEY", ""), help="default: $A2A_API_KEY")
    return parser.parse_args()


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)  # argparse says it where this raises ValueError
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _converse(runner: asyncio.Runner, talk: Conversation, options: argparse.Namespace) -> int:
    """Says things until the task does not ask any more."""
    chosen = {"parameters": options.parameters, "priority": options.priority}
    runner.run(talk.say(options.text, **{name: value for name, value in chosen.items() if value is not None}))
    while talk.status.state in ASKS:
        # Not inside the event loop, which Ctrl-C could not interrupt while it waits for a line.
        line = sys.stdin.readline()
        if not line:
            _tell(f"It waits for an answer: --task {talk.task_id}")
            return 1
        runner.run(talk.say(line.rstrip("\n")))
    for text in runner.run(talk.answer()):
        print(text)
    done = talk.reply is not None or talk.status.state == TaskState.TASK_STATE_COMPLETED
    return 0 if done else 1


def _cancel(runner: asyncio.Runner, talk: Conversation) -> None:
    if not talk.task_id:
        return
    try:
        runner.run(talk.cancel())
        _tell(f"cancelled {talk.task_id}")
    except A2AError as error:
        _tell(f"not cancelled: {error}")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
