"""The only writer of task state (D2): verbs in SQL, each taking a list.

A verb is a generator that yields one statement at a time and receives its rows, so the same verb runs on Django's
connection (:func:`run`) and on an async one (:func:`arun`). Losing a race is a return value, never an exception.

==============  =====================================================================
create          accept tasks: row, request and first event
admit           mark what may enter the broker now
republish       hints the broker may have lost, again
claim           pending → running for one attempt: the right to write
extend          move leases on
write           record progress, artifacts, messages; finish
release         a fenced attempt's handler has stopped
request_cancel  → cancelled, fenced at once
rescue          end attempts whose lease expired or whose process died
expire          end attempts that ran past their timeout
==============  =====================================================================
"""

from tasks_app.engine.admit import Hint, admit, outstanding, republish, unpublished
from tasks_app.engine.cancel import Cancelled, request_cancel
from tasks_app.engine.claim import Claim, ClaimRequest, claim, extend
from tasks_app.engine.core import Steps, arun, run
from tasks_app.engine.create import Created, NewTask, create
from tasks_app.engine.expire import expire
from tasks_app.engine.rescue import Rescued, rescue, sweep_is_late, tick
from tasks_app.engine.write import ArtifactRecord, Chunk, Finish, Note, Write, Written, release, write

__all__ = [
    "ArtifactRecord",
    "Cancelled",
    "Chunk",
    "Claim",
    "ClaimRequest",
    "Created",
    "Finish",
    "Hint",
    "NewTask",
    "Note",
    "Rescued",
    "Steps",
    "Write",
    "Written",
    "admit",
    "arun",
    "claim",
    "create",
    "expire",
    "extend",
    "outstanding",
    "release",
    "republish",
    "request_cancel",
    "rescue",
    "run",
    "sweep_is_late",
    "tick",
    "unpublished",
    "write",
]
