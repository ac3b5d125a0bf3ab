"""How states, priorities, progress, instants and sizes look: small pieces of escaped HTML."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks_app.models import Outcome, Task
from tasks_app.status import TERMINAL, Priority, TaskStatus

NOTHING = "–"
#: What is not here is red.
OUTCOMES: dict[str | None, str] = {
    None: TaskStatus.RUNNING,
    Outcome.COMPLETED: TaskStatus.COMPLETED,
    Outcome.REJECTED: TaskStatus.REJECTED,
    Outcome.RETRIED: TaskStatus.PENDING,
    Outcome.SNOOZED: TaskStatus.PENDING,
    Outcome.HANDED_BACK: TaskStatus.PENDING,
    Outcome.NO_ROOM: TaskStatus.PENDING,
    Outcome.INTERRUPTED: TaskStatus.INPUT_REQUIRED,
    Outcome.CANCELLED: TaskStatus.CANCELLED,
}


def words(name: str) -> str:
    """``input_required`` as a person writes it."""
    return name.replace("_", " ")


def state(status: str) -> SafeString:
    """The coloured label of a task's state."""
    return format_html('<span class="a2a-label a2a-{}"><i></i>{}</span>', status, words(status))


def outcome(name: str | None) -> SafeString:
    """The label of how an attempt ended, in the colour of the state it is nearest to."""
    colour = OUTCOMES.get(name, "failed")
    return format_html('<span class="a2a-label a2a-{}"><i></i>{}</span>', colour, words(name or "running"))


def priority(value: int) -> SafeString:
    """The coloured label of a priority."""
    name = Priority(value).label
    return format_html('<span class="a2a-label a2a-priority-{}">{}</span>', name, name)


def bar(fraction: float, status: str) -> SafeString:
    """A progress bar in the colour of the state, with its number."""
    percent = percentage(fraction)
    return format_html(
        '<span class="a2a-progress"><span class="a2a-bar a2a-{}" role="progressbar" aria-valuemin="0"'
        ' aria-valuemax="100" aria-valuenow="{}"><i style="width: {}%"></i></span><b>{}%</b></span>',
        status,
        percent,
        percent,
        percent,
    )


def attempts(task: Task) -> SafeString:
    """How many of its attempts a task has spent; on hover how often it ran."""
    runs = f"{task.attempt} run" if task.attempt == 1 else f"{task.attempt} runs"
    title = f"{runs}, {task.spent} of {task.max_attempts} attempts spent"
    return format_html('<span title="{}">{}/{}</span>', title, task.spent, task.max_attempts)


def label(text: str, colour: str) -> SafeString:
    """A label in the colour of a state."""
    return format_html('<span class="a2a-label a2a-{}"><i></i>{}</span>', colour, text)


def percentage(fraction: float) -> int:
    """Whole percent; 100 only when it is done."""
    return int(fraction * 100 + 1e-9)


def when(instant: datetime | None, *, now: datetime | None = None) -> SafeString | str:
    """An instant relative to now, the absolute one on hover."""
    if instant is None:
        return NOTHING
    at = instant.astimezone(UTC)
    absolute = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"
    gap_s = ((now or timezone.now()) - instant).total_seconds()
    text = "now" if abs(gap_s) < 1 else f"{brief(gap_s)} ago" if gap_s > 0 else f"in {brief(-gap_s)}"
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), absolute, text)


def since(start: datetime, instant: datetime) -> SafeString:
    """How long after ``start`` an instant was; the absolute one on hover."""
    at = instant.astimezone(UTC)
    return format_html(
        '<span title="{}">+{}</span>', f"{at:%Y-%m-%d %H:%M:%S.%f} UTC", span((instant - start).total_seconds())
    )


def clock(instant: datetime | None) -> SafeString | str:
    """The time of day, the whole instant on hover."""
    if instant is None:
        return NOTHING
    at = instant.astimezone(UTC)
    return format_html('<span title="{}">{}</span>', f"{at:%Y-%m-%d %H:%M:%S.%f} UTC", f"{at:%d %b %H:%M:%S}")


def brief(seconds: float) -> str:
    """A span in its largest unit, rounded down: ``3 min``."""
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{int(seconds // size_s)} {unit}"
    return f"{int(seconds)} s"


def span(seconds: float | None) -> str:
    """A span to two units: ``420 ms``, ``3.2 s``, ``2 min 5 s``, ``1 h 3 min``, ``2 d 4 h``."""
    if seconds is None:
        return NOTHING
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for size_s, large, part_s, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size_s:
            whole, part = int(seconds // size_s), int(seconds % size_s // part_s)
            return f"{whole} {large} {part} {small}" if part else f"{whole} {large}"
    raise AssertionError("unreachable")


def between(start: datetime | None, end: datetime | None) -> float | None:
    """The seconds from one instant to another; None while either is open."""
    return None if start is None or end is None else (end - start).total_seconds()


def size(size_bytes: int) -> str:
    """A size as a person reads it, in powers of ten: ``12.3 kB``."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, units = size_bytes / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 999.95 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.1f} {units[0]}"


def ended(status: str) -> bool:
    """Whether the state is terminal."""
    return TaskStatus(status) in TERMINAL
