"""What a handler submits: a batch of its own client's tasks."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from tasks_app import batches
from tasks_app.a2a.errors import A2AError, ResourceExhaustedError
from tasks_app.agents import AgentError
from tasks_app.authentication import Caller
from tasks_app.engine import Claim
from tasks_app.models import Client


def batch(claim: Claim, body: dict[str, Any], *, key: str) -> UUID:
    """The batch that this body asks for under this key, by its id. Raises as ``Context.batch`` does."""
    if connection.in_atomic_block:
        raise RuntimeError("ctx.batch: not within a transaction of the handler's, with which it would be undone")
    try:
        body = json.loads(json.dumps(body, allow_nan=False))
        orjson.dumps(body)  # what JSON's own encoder lets through, and no client could send
    except TypeError as error:
        raise ValueError(f"ctx.batch: {error}") from error
    try:
        owner = Client.objects.get(name=claim.client)
        caller = Caller.of(owner)
        return batches.make(batches.asked(body, key=key), caller).batch_id
    except ResourceExhaustedError as error:
        raise AgentError(
            error.message, code="resource_exhausted", retryable=True, delay_s=float(error.retry_after_s)
        ) from error
    except A2AError as error:
        raise ValueError(error.message) from error
    finally:
        # It may be the only query of this thread, or of this process.
        connection.close()
