"""What operators and policy hold up: pauses and limits of queues, lanes and agents, and the agents' breakers."""

from django.db import models
from django.db.models import Q


class QueueControl(models.Model):
    """A pause or a limit of one lane, queue or agent; without a row there is none. Clients carry their own."""

    class Scope(models.TextChoices):
        LANE = "lane"
        QUEUE = "queue"
        AGENT = "agent"

    scope = models.CharField(max_length=8, choices=Scope.choices)
    #: ``cpu``, ``a2a.cpu.low``, or an agent's name.
    name = models.CharField(max_length=128)
    #: Set by an operator: nothing of it is admitted until it is null again; what runs goes on.
    paused_at = models.DateTimeField(null=True, blank=True)
    #: How many may be admitted or running at once; null: as the agent declares, else as many as there are slots.
    max_running = models.PositiveIntegerField(null=True, blank=True)
    #: How many an agent may be given per second; null: as the agent declares, else as many as it takes.
    dispatch_rate_per_s = models.FloatField(null=True, blank=True)
    #: When the next one is due under that rate; moved on by the dispatcher as it admits.
    next_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope", "name"], name="control_one_per_name"),
            models.CheckConstraint(
                name="control_rate_positive",
                condition=Q(dispatch_rate_per_s__isnull=True) | Q(dispatch_rate_per_s__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.name}"


class Breaker(models.Model):
    """The circuit breaker of an agent that declares one, as all processes see it. The dispatcher moves it on."""

    class State(models.TextChoices):
        #: Tasks are admitted.
        CLOSED = "closed"
        #: Too many attempts failed: tasks stay pending until ``retry_at``.
        OPEN = "open"
        #: One task, the probe, is let through; its end closes or opens it.
        HALF_OPEN = "half_open"

    agent = models.CharField(max_length=64, primary_key=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.CLOSED)
    #: Failures before this instant are forgotten: set when it closes.
    changed_at = models.DateTimeField()
    retry_at = models.DateTimeField(null=True)
    #: The task let through while half open, and the epoch it was admitted with.
    probe = models.UUIDField(null=True)
    probe_epoch = models.IntegerField(null=True)
    #: Why it is as it is, for people.
    reason = models.TextField(default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="breaker_probe_only_half_open", condition=Q(probe__isnull=True) | Q(state="half_open")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent} {self.state}"
