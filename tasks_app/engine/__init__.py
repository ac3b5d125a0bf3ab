"""The only writer of task state (D2): verbs in SQL, each taking a list.

A verb is a generator that yields one statement at a time and receives its rows, so the same verb runs on Django's
connection (:func:`run`) and on an async one (:func:`arun`). Losing a race is a return value, never an exception.

==============  =====================================================================
create          accept tasks: row, request and first event
admit           mark what may enter the broker now, as the dispatcher's plan chooses
republish       hints the broker may have lost, again
claim           pending → running for one attempt: the right to write
deliver         further messages of clients; a task that waited for one is pending again
extend          move leases on
fenced          which attempts have lost theirs
write           record progress, messages, checkpoints, artifacts; finish
release         a fenced attempt's handler has stopped
request_cancel  → cancelled, fenced at once
lose            end attempts whose process died, or whose worker goes
rescue          end attempts whose lease expired
expire          end what ran, waited to start or waited for its client too long
reschedule      give what is pending another priority or time
unadmit         take back what was admitted and is paused now
rerun           a new task from one that has ended
judge           move circuit breakers on
open_batch      a batch, for tasks that are created in it; find_batch, refuse, tally
resolve         what becomes of tasks that need others which have ended
settle          complete the batches of which every task has ended
leftovers       what handlers left elsewhere of tasks cancelled without one; left: what became of it
prune           delete what ended long ago: prunable, and delete
==============  =====================================================================
"""

from tasks_app.engine.admit import Admission, Hint, admit, republish, unpublished
from tasks_app.engine.artifacts import Kept
from tasks_app.engine.batches import NewBatch, Opened, Tally, find_batch, open_batch, refuse, settle, tally
from tasks_app.engine.breaker import BreakerState, judge
from tasks_app.engine.cancel import Cancelled, request_cancel
from tasks_app.engine.change import rerun, reschedule, unadmit
from tasks_app.engine.claim import Claim, ClaimRequest, Offer, claim, extend, fenced
from tasks_app.engine.core import Steps, arun, run
from tasks_app.engine.create import Created, NewTask, Submitted, create, create_within
from tasks_app.engine.deliver import Delivered, FollowUp, deliver
from tasks_app.engine.dependencies import Freed, Resolved, resolve
from tasks_app.engine.expire import expire
from tasks_app.engine.leftover import Leftover, left, leftovers
from tasks_app.engine.loss import Lost, lose, rescue, sweep_is_late, tick
from tasks_app.engine.prune import delete, prunable, prune
from tasks_app.engine.records import (
    ArtifactRecord,
    CheckpointRecord,
    Chunk,
    Finish,
    Moved,
    Note,
    Record,
    Usage,
    Write,
    Written,
)
from tasks_app.engine.write import release, write

__all__ = [
    "Admission",
    "ArtifactRecord",
    "BreakerState",
    "Cancelled",
    "CheckpointRecord",
    "Chunk",
    "Claim",
    "ClaimRequest",
    "Created",
    "Delivered",
    "Finish",
    "FollowUp",
    "Freed",
    "Hint",
    "Kept",
    "Leftover",
    "Lost",
    "Moved",
    "NewBatch",
    "NewTask",
    "Note",
    "Offer",
    "Opened",
    "Record",
    "Resolved",
    "Steps",
    "Submitted",
    "Tally",
    "Usage",
    "Write",
    "Written",
    "admit",
    "arun",
    "claim",
    "create",
    "create_within",
    "delete",
    "deliver",
    "expire",
    "extend",
    "fenced",
    "find_batch",
    "judge",
    "left",
    "leftovers",
    "lose",
    "open_batch",
    "prunable",
    "prune",
    "refuse",
    "release",
    "republish",
    "request_cancel",
    "rerun",
    "reschedule",
    "rescue",
    "resolve",
    "run",
    "settle",
    "sweep_is_late",
    "tally",
    "tick",
    "unadmit",
    "unpublished",
    "write",
]
