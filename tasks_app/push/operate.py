"""What operators do about notifications, for the admin and the command line alike; as ``control`` for all else."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Model
from django.db.models.functions import Now

from tasks_app import engine
from tasks_app.control import NotFound, Scope, names
from tasks_app.models import Client, PushConfig, PushDelivery, WebhookSecret
from tasks_app.push import outbox
from tasks_app.push.sealing import reseal, seal

#: What Standard Webhooks asks for: 24 to 64 random bytes.
SECRET_BYTES = 32
#: How long the secrets before the newest go on signing.
OVERLAP = timedelta(days=1)
#: The columns that hold what is sealed.
SEALED: dict[type[Model], tuple[str, ...]] = {PushConfig: ("token", "credentials"), WebhookSecret: ("secret",)}


def resume(config_ids: Sequence[UUID]) -> list[UUID]:
    """Lets those of these webhooks that are dead go on with the event that they did not take; their ids."""
    return engine.run(outbox.resume, dict.fromkeys(config_ids))


def resend(delivery: PushDelivery) -> bool:
    """Sends the event of this delivery, and all after it, to its webhook once more. False if the webhook is gone."""
    return bool(engine.run(outbox.resume, {delivery.config: delivery.generation}))


def issue_secret(client: str) -> str:
    """A new secret that the client's notifications are signed with, as receivers take it: ``whsec_…``. Shown once.

    Those before it sign beside it for a day, so that receivers can change over. Raises :class:`NotFound`.
    """
    secret = secrets.token_bytes(SECRET_BYTES)
    with transaction.atomic():
        owner = Client.objects.select_for_update().filter(name=client).first()
        if owner is None:
            raise NotFound(f"no client '{client}'; there are: {', '.join(names(Scope.CLIENT)[:50]) or 'none'}")
        WebhookSecret.objects.filter(client=owner, expires_at=None).update(expires_at=Now() + OVERLAP)
        WebhookSecret.objects.create(client=owner, secret=seal(secret), created_at=Now())
    return f"whsec_{base64.b64encode(secret).decode()}"


def reseal_all() -> int:
    """Seals everything that is sealed with the first of ``A2A_SECRET_KEYS``; how many secrets.

    Raises :class:`tasks_app.push.sealing.Unopenable` if one cannot be opened; then nothing was changed.
    """
    with transaction.atomic():
        return sum(_reseal(model, columns) for model, columns in SEALED.items())


def _reseal(model: type[Model], columns: tuple[str, ...]) -> int:
    count = 0
    for row in model._default_manager.select_for_update().only(*columns).iterator():
        sealed = {name: getattr(row, name) for name in columns if getattr(row, name) is not None}
        if sealed:
            fresh = {name: reseal(bytes(value)) for name, value in sealed.items()}
            count += model._default_manager.filter(pk=row.pk).update(**fresh) and len(fresh)
    return count
