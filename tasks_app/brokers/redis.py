"""kombu's Redis transport, for queues in which anybody may have put anything."""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis

from tasks_app.brokers import damaged

log = logging.getLogger(__name__)
TEXT_CHARS = 200
_Channel: Any = redis.Channel  # its stubs know little of it


class Message(damaged.Message):
    def _check(self) -> None:
        super()._check()
        self.delivery_info["exchange"], self.delivery_info["routing_key"]


class Channel(_Channel):  # type: ignore[misc]
    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        """What is not even JSON has left its list when that is found out: it is told, and gone."""
        try:
            return super()._brpop_read(**options)
        except (ValueError, TypeError, LookupError) as error:
            text = str(getattr(error, "doc", ""))[:TEXT_CHARS]
            log.error("dropped what is no message from a queue: %s: %r", error, text)
            return True


class Transport(redis.Transport):
    Channel = Channel
