"""Who may ask: clients and their API keys. A task belongs to one client and only that client sees it."""

from __future__ import annotations

import hashlib
import secrets

from django.db import models
from django.utils import timezone

#: The client that requests without a key belong to in the open mode.
LOCAL_CLIENT = "local"


class Client(models.Model):
    """A user of the server: a program, a team, a person."""

    name = models.CharField(max_length=100, unique=True)
    is_active = models.BooleanField(default=True)
    #: How many of its tasks may be admitted or running at once; null: as many as there are slots.
    max_running = models.PositiveIntegerField(null=True, blank=True)
    #: How many of its tasks may wait; a submit beyond it is refused with 429.
    max_queued = models.PositiveIntegerField(null=True, blank=True)
    #: Submits per second, averaged over a minute; beyond it 429 with Retry-After.
    submit_rate_per_s = models.FloatField(null=True, blank=True)
    #: Set by an operator: nothing of it is admitted until it is null again.
    paused_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="client_submit_rate_positive",
                condition=models.Q(submit_rate_per_s__isnull=True) | models.Q(submit_rate_per_s__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A key of a client, ``a2a_<prefix>_<secret>``, of which only the SHA-256 is kept.

    The secret has 256 random bits, so a plain hash suffices: there is nothing to guess by dictionary.
    """

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="api_keys")
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"a2a_{self.prefix}_…"

    @classmethod
    def issue(cls, client: Client) -> tuple[ApiKey, str]:
        """A new key and its text, which is shown once and cannot be had again."""
        prefix = secrets.token_hex(4)
        text = f"a2a_{prefix}_{secrets.token_urlsafe(32)}"
        return cls.objects.create(client=client, prefix=prefix, digest=cls.hash(text)), text

    @staticmethod
    def hash(text: str) -> bytes:
        """The SHA-256 of a key's text, 32 bytes."""
        return hashlib.sha256(text.encode()).digest()
