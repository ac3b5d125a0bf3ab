"""A client's keys: issued, shown once, rotated, revoked. Nothing else of a key is ever changed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from tasks_app.models.client import Client
from tasks_app.scopes import SCOPE_MAX_CHARS, is_scope

#: How long a key still counts after its successor was issued, unless somebody says otherwise.
GRACE = timedelta(days=1)


def validate_scope(text: str) -> None:
    """Raises ValidationError for what no scope can be (RFC 6749, section 3.3)."""
    if not is_scope(text):
        raise ValidationError(f"'{text}' is no scope: no spaces, quotes or backslashes")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Keys, as the database's rows say at this moment."""

    def in_use(self) -> ApiKeyQuerySet:
        """Those that are neither revoked nor past their expiry."""
        now = timezone.now()
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now), revoked_at=None)


class ApiKey(models.Model):
    """A key of a client, ``a2a_<prefix>_<secret>``, of which only the SHA-256 is kept.

    The secret has 256 random bits, so a plain hash suffices: there is nothing to guess by dictionary.
    """

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="api_keys")
    #: What it is for, in its owner's words.
    name = models.CharField(max_length=100, blank=True, default="", db_default="")
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    #: What it may be used for; empty: everything. See ``tasks_app/scopes.py``.
    scopes = ArrayField(
        models.CharField(max_length=SCOPE_MAX_CHARS, validators=[validate_scope]),
        default=list,
        db_default=[],
        blank=True,
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    #: Set when it is issued; brought forward when its successor is.
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    #: The last request that brought it, to a minute or so: see ``authentication.USED_EVERY``.
    last_used_at = models.DateTimeField(null=True, editable=False)
    #: The key whose place it takes.
    predecessor = models.OneToOneField(
        "self", null=True, editable=False, on_delete=models.SET_NULL, related_name="successor"
    )

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"a2a_{self.prefix}_…"

    @classmethod
    def issue(
        cls,
        client: Client,
        *,
        name: str = "",
        scopes: Iterable[str] = (),
        expires_at: datetime | None = None,
        predecessor: ApiKey | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is shown once and cannot be had again."""
        prefix = secrets.token_hex(4)
        text = f"a2a_{prefix}_{secrets.token_urlsafe(32)}"
        row = cls(
            client=client,
            name=name,
            prefix=prefix,
            digest=cls.hash(text),
            scopes=list(scopes),
            expires_at=expires_at,
            predecessor=predecessor,
        )
        row.save(force_insert=True)
        return row, text

    @transaction.atomic
    def rotate(self, *, grace: timedelta = GRACE) -> tuple[ApiKey, str] | None:
        """Issues a successor with the same rights and the same life, and lets this one expire after ``grace``.

        None if it is no longer in use, or has a successor already. Locks its row.
        """
        row = ApiKey.objects.in_use().select_for_update().filter(pk=self.pk).first()
        # A query of its own: after a wait for the lock the first one's snapshot may be older than a successor.
        if row is None or ApiKey.objects.filter(predecessor=row).exists():
            return None
        now = timezone.now()
        ends = None if row.expires_at is None else now + (row.expires_at - row.created_at)
        issued = ApiKey.issue(row.client, name=row.name, scopes=row.scopes, expires_at=ends, predecessor=row)
        last = now + grace
        ApiKey.objects.filter(pk=row.pk).update(expires_at=min(last, row.expires_at or last))
        return issued

    def revoke(self) -> bool:
        """Ends its validity for ever; processes that just saw it take a few seconds to notice. False if it had ended
        so before."""
        return bool(ApiKey.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=timezone.now()))

    @staticmethod
    def hash(text: str) -> bytes:
        """The SHA-256 of a key's text, 32 bytes."""
        return hashlib.sha256(text.encode()).digest()
