"""The ceiling of the drain benchmark: Celery's noop with nothing stored, on a durable quorum queue as ours are.

No result backend, Celery's own defaults else: early acknowledgement, a prefetch of four per process. Each job notes
when it ran with one append of eight bytes to a file in memory (a microsecond), since nothing else would know it.
"""

from __future__ import annotations

import os
import struct
import time

from celery import Celery
from celery.worker.consumer import Consumer
from kombu import Queue

QUEUE = "benchmark.bare"
# As in our own app: no 28 queues for ETAs that nobody uses.
Consumer.Blueprint.default_steps = {step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step}

app = Celery("bare", broker=os.environ.get("A2A_BROKER_URL"))
app.conf.update(
    task_queues=[Queue(QUEUE, queue_arguments={"x-queue-type": "quorum"})],
    task_default_queue=QUEUE,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)
_ledger = os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.task(name="noop")
def noop(number: int) -> None:
    os.write(_ledger, struct.pack("=d", time.monotonic()))
