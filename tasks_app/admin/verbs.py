"""What an operator can do to tasks, as data: of which tasks, in which words, by which function of ``control``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from uuid import UUID

from django import forms
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from tasks_app import control
from tasks_app.status import TERMINAL, Priority, TaskStatus


class PriorityForm(forms.Form):
    """Which priority."""

    priority = forms.TypedChoiceField(
        choices=Priority.choices, coerce=lambda text: Priority(int(text)), widget=UnfoldAdminSelectWidget
    )


class TimeForm(forms.Form):
    """Not before when."""

    run_after = forms.DateTimeField(
        label="Not before, in UTC",
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"],
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """``ask``, ``did`` and ``nothing`` are its words, with ``{}`` for the tasks; ``note`` says what it does.

    It fits tasks in these ``statuses``; of another one it is said that it has ``unfit``, and of those that turned out
    not to fit, ``left``. ``run`` is given ids, what the ``form`` asked, and who did it, and returns the ids of the
    tasks that it changed or made.
    """

    name: str
    ask: str
    note: str
    did: str
    nothing: str
    statuses: frozenset[TaskStatus]
    unfit: str
    left: str
    run: Callable[[Sequence[UUID], Mapping[str, Any], str], list[UUID]]
    form: type[forms.Form] | None = None
    danger: bool = False
    #: Whether its tasks are new ones.
    makes: bool = False


def _cancel(task_ids: Sequence[UUID], asked: Mapping[str, Any], by: str) -> list[UUID]:
    return [item.task_id for item in control.cancel(task_ids, by=by)]


def _rerun(task_ids: Sequence[UUID], asked: Mapping[str, Any], by: str) -> list[UUID]:
    return [item.task_id for item in control.rerun(task_ids)]


def _prioritise(task_ids: Sequence[UUID], asked: Mapping[str, Any], by: str) -> list[UUID]:
    return control.prioritise(task_ids, asked["priority"])


def _postpone(task_ids: Sequence[UUID], asked: Mapping[str, Any], by: str) -> list[UUID]:
    return control.postpone(task_ids, asked["run_after"].replace(tzinfo=UTC))


def _start(task_ids: Sequence[UUID], asked: Mapping[str, Any], by: str) -> list[UUID]:
    return control.postpone(task_ids, timezone.now())


CANCEL = Verb(
    name="cancel",
    ask="Cancel {}",
    note="What runs is told to stop; what waits never starts. There is no undo.",
    did="Cancelled {}.",
    nothing="Nothing was cancelled.",
    statuses=frozenset(TaskStatus) - TERMINAL,
    unfit="ended already",
    left="{} had ended already.",
    run=_cancel,
    danger=True,
)
RERUN = Verb(
    name="rerun",
    ask="Run {} again",
    note="Each becomes a new task with the same request; the old one stays as it is, and the two name each other.",
    did="Made {}.",
    nothing="Nothing was run again.",
    statuses=TERMINAL,
    unfit="not ended yet",
    left="{} had not ended yet, or had an agent that is gone.",
    run=_rerun,
    makes=True,
)
_WAITS: dict[str, Any] = {
    "statuses": frozenset({TaskStatus.PENDING}),
    "unfit": "started or ended already",
    "left": "{} had started or ended already.",
}
PRIORITY = Verb(
    name="priority",
    ask="Change the priority of {}",
    note="What waits takes its place among the tasks of the new priority. What runs goes on.",
    did="Changed the priority of {}.",
    nothing="No priority was changed.",
    run=_prioritise,
    form=PriorityForm,
    **_WAITS,
)
LATER = Verb(
    name="later",
    ask="Run {} later",
    note="It waits until then; its place in the queue counts from then.",
    did="Put off {}.",
    nothing="Nothing was put off.",
    run=_postpone,
    form=TimeForm,
    **_WAITS,
)
NOW = Verb(
    name="now",
    ask="Run {} now",
    note="It waits for its time no longer, and starts as soon as its priority and the limits let it.",
    did="Put forward {}.",
    nothing="Nothing was put forward.",
    run=_start,
    **_WAITS,
)
VERBS = {verb.name: verb for verb in (CANCEL, RERUN, PRIORITY, LATER, NOW)}
