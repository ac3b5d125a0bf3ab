"""One client of the HTTP doors, with a connection that it keeps: as quick as the standard library makes it."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

OPTIONS = "urn:a2a-task-manager:task-options:v1"
ENDED = {"completed", "failed", "cancelled", "rejected"}


class Door:
    """Raises RuntimeError for an answer that is an error."""

    def __init__(self, url: str) -> None:
        self._line = HTTPConnection(urlsplit(url).netloc, timeout=60)

    def submit(self, agent: str, **options: Any) -> str:
        """The id of a new task, by A2A's JSON-RPC with returnImmediately; ``options`` are our extension's fields."""
        message = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": "hello"}]}
        params = {
            "message": {**message, "metadata": {OPTIONS: options}},
            "configuration": {"returnImmediately": True},
        }
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params})
        headers = {"Content-Type": "application/json", "A2A-Version": "1.0"}
        self._line.request("POST", f"/a2a/{agent}/", body, headers)
        answer = json.loads(self._line.getresponse().read())
        if "error" in answer:
            raise RuntimeError(f"the submit was refused: {answer['error']}")
        return str(answer["result"]["task"]["id"])

    def follow(self, task_id: str) -> str:
        """Reads the task's server-sent events from the first to the terminal one; the state that it ended in."""
        self._line.request("GET", f"/api/v1/tasks/{task_id}/events/")
        answer = self._line.getresponse()
        status = ""
        while status not in ENDED:
            line = answer.readline()
            if not line:
                raise RuntimeError(f"the stream of {task_id} ended early, at '{status}'")
            if line.startswith(b"data:"):
                status = json.loads(line[5:])["status"]
        answer.read()
        return status
