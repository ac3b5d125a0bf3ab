"""Who may ask: clients. A task belongs to one client and only that client sees it."""

from __future__ import annotations

import hashlib

from django.db import models
from django.db.models import Q
from django.utils import timezone

#: The client that requests without a key belong to in the open mode.
LOCAL_CLIENT = "local"
#: The longest name; of an issuer and of a subject the longest that is kept.
NAME_MAX_CHARS = 100
IDENTITY_MAX_CHARS = 255


class Client(models.Model):
    """A user of the server: a program, a team, a person."""

    name = models.CharField(max_length=NAME_MAX_CHARS, unique=True)
    is_active = models.BooleanField(default=True)
    #: Whose tokens speak for it, by ``iss`` and by the claim that names a client; both empty where none do. Set when
    #: such a token is first seen, or before by an operator.
    issuer = models.CharField(max_length=IDENTITY_MAX_CHARS, blank=True, default="", db_default="")
    subject = models.CharField(max_length=IDENTITY_MAX_CHARS, blank=True, default="", db_default="")
    #: How many of its tasks may be admitted or running at once; null: as many as there are slots.
    max_running = models.PositiveIntegerField(null=True, blank=True)
    #: How many of its tasks may wait; a submit beyond it is refused with 429.
    max_queued = models.PositiveIntegerField(null=True, blank=True)
    #: Submits per second, averaged over a minute; beyond it 429 with Retry-After.
    submit_rate_per_s = models.FloatField(null=True, blank=True)
    #: How many bytes its files and artifacts may have together; beyond it 429 for what brings more files.
    max_storage_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    #: How many they had when the sweep last looked; of a client with a limit only.
    stored_bytes = models.BigIntegerField(default=0, db_default=0, editable=False)
    #: Set by an operator: nothing of it is admitted until it is null again.
    paused_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="client_submit_rate_positive",
                condition=Q(submit_rate_per_s__isnull=True) | Q(submit_rate_per_s__gt=0),
            ),
            models.CheckConstraint(
                name="client_issuer_iff_subject",
                condition=Q(issuer="", subject="") | (~Q(issuer="") & ~Q(subject="")),
            ),
            models.UniqueConstraint(fields=["issuer", "subject"], name="client_identity_once", condition=~Q(issuer="")),
        ]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def made_for(*, issuer: str, subject: str, name: str) -> Client:
        """The client of an identity that had none; another process may make it at the same time.

        A name is no identity: where this one is another client's, or too long, it is made unique by a digest.
        """
        digest = hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:12]
        unique = f"{name[: NAME_MAX_CHARS - 13]}~{digest}"
        for text in (name, unique) if len(name) <= NAME_MAX_CHARS else (unique,):
            Client.objects.bulk_create([Client(name=text, issuer=issuer, subject=subject)], ignore_conflicts=True)
            found = Client.objects.filter(issuer=issuer, subject=subject).first()
            if found is not None:
                return found
        raise Client.DoesNotExist(f"no name is left for {name}")
