"""Something in a queue that is no message of kombu's: given a form that Celery can refuse, and no worker dies of.

RabbitMQ needs none of this: there the frame around a message is the broker's own.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import virtual
from kombu.utils.json import dumps
from kombu.utils.uuid import uuid


class Message(virtual.Message):
    """As kombu's; what is damaged becomes a message without headers, and with all there was for its body."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
            self._check()
        except Exception:
            super().__init__(self._stand_in(payload), channel=channel, **kwargs)

    def _check(self) -> None:
        """Raises what makes kombu stumble later."""
        if not (isinstance(self.delivery_tag, str) and isinstance(self.headers, dict)):
            raise TypeError("delivery_tag is no text, or headers no object")

    def _stand_in(self, payload: Any) -> dict[str, Any]:
        return {
            "body": dumps(payload),
            "properties": {"delivery_tag": uuid(), "delivery_info": {"exchange": "", "routing_key": ""}},
        }
