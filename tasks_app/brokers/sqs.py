"""kombu's SQS transport, for queues in which anybody may have put anything, and for a service that fails at times.

kombu's own ends the worker at the first answer that is late, refused, or says that the queue is gone.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import SQS
from vine import promise, transform

from tasks_app.brokers import damaged

log = logging.getLogger(__name__)
#: Before a queue is asked again after an error.
AGAIN_S = 1.0
_Channel: Any = SQS.Channel  # its stubs know little of it


class Message(damaged.Message):
    def _stand_in(self, payload: Any) -> dict[str, Any]:
        """Keeps what the message is deleted by."""
        stand_in, properties = super()._stand_in(payload.get("body")), payload["properties"]
        kept = {name: properties["delivery_info"][name] for name in ("sqs_message", "sqs_queue")}
        stand_in["properties"] = {"delivery_tag": properties["delivery_tag"], "delivery_info": kept}
        return stand_in


class Channel(_Channel):  # type: ignore[misc]
    Message = Message

    def _envelope_payload(self, payload: Any, raw_text: str, message: Any, q_url: str) -> Any:
        try:
            return super()._envelope_payload(payload, raw_text, message, q_url)
        except Exception:
            return super()._envelope_payload({}, raw_text, message, q_url)

    def _schedule_queue(self, queue: str) -> None:
        """Polls the queue; after an error again, with a pause."""
        if queue not in self._active_queues:
            return
        try:
            if self.qos.can_consume():
                self._get_bulk_async(queue, callback=promise(self._loop1, (queue,), on_error=self._poll_failed))
            else:
                self._loop1(queue)
        except Exception as error:
            self._poll_failed(queue, error)

    def _get_async(self, queue: str, count: int = 1, callback: Any = None) -> Any:
        """As kombu's, but an answer that is an error goes to :meth:`_poll_failed`, and not up through the worker."""
        url, name = self._new_queue(queue), self.canonical_queue_name(queue)
        received = transform(self._on_messages_ready, callback, url, queue)
        received.on_error = lambda *args: self._poll_failed(queue, args[-1])
        return self._get_from_sqs(name, url, self.asynsqs(queue=name), count=count, callback=received)

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> Any:
        if isinstance(messages, list):
            raise ConnectionError("no answer, or an error of the server's")
        return super()._on_messages_ready(queue, qname, messages)

    def _poll_failed(self, queue: str, error: BaseException) -> None:
        log.warning("polling %s failed, trying again: %s", queue, error)
        # It may have been deleted: the next poll looks it up, and makes it if it is missing.
        if not self.predefined_queues:
            self._queue_cache.pop(self.canonical_queue_name(queue), None)
        self.hub.call_later(AGAIN_S, self._schedule_queue, queue)


class Transport(SQS.Transport):
    Channel = Channel
