"""System checks of the project's settings. ``manage.py a2a --validate-config`` runs these with Django's own.

Each message has a stable id and a hint; ``.env.example`` says what each variable is. Nothing here connects to anything
but the check tagged ``database``, which Django runs only where it is asked to.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

from artifacts_app.storage.options import S3, is_place, kind
from tasks_app import agents, tokens
from tasks_app.brokers import options
from tasks_app.schedules import declared

#: Names stand in addresses and in queues' arguments: those of DNS labels.
AGENT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
#: What every broker's names can hold; SQS has 80 characters for a name, and some of them are ours.
QUEUE_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,40}")
#: What kombu's SQS transport imports.
SQS_NEEDS = ("boto3", "pycurl")
LOOPBACK = {"localhost", "127.0.0.1", "[::1]", "::1", ".localhost"}
#: The first with NULLS NOT DISTINCT.
POSTGRESQL_MIN = 150_000
CONNECT_TIMEOUT_S = 5
POSITIVE = (
    "A2A_MAX_BODY_BYTES",
    "A2A_MAX_FILE_BYTES",
    "A2A_FETCH_TIMEOUT_S",
    "A2A_KEEP_UPLOADS_DAYS",
    "A2A_BLOCKING_WAIT_S",
    "A2A_LEASE_S",
    "A2A_HEARTBEAT_S",
    "A2A_AGEING_S",
    "A2A_REPUBLISH_S",
    "A2A_SWEEP_S",
    "A2A_PRUNE_S",
    "A2A_PUSH_MAX_PER_TASK",
    "A2A_PUSH_MAX_FAILURES",
    "A2A_PUSH_SWEEP_S",
    "A2A_FIRE_S",
    "A2A_WEB_POOL_SIZE",
)


@register
def secret_key(**_: Any) -> list[CheckMessage]:
    """E001. Django itself complains only when something is first signed, in the middle of a request."""
    try:
        settings.SECRET_KEY  # noqa: B018 (reading it raises)
    except ImproperlyConfigured:
        hint = "Set it to a long random text, the same in all processes; or set A2A_OPEN_MODE=1 on your own machine."
        return [Error("A2A_SECRET_KEY is empty.", hint=hint, id="a2a.E001")]
    return []


@register
def registered_agents(**_: Any) -> list[CheckMessage]:
    """E002 for a default agent that is not there, E003 for each name that no address can carry."""
    found: list[CheckMessage] = []
    known = sorted(agents.registered())
    if settings.A2A_DEFAULT_AGENT not in known:
        text = f"A2A_DEFAULT_AGENT names '{settings.A2A_DEFAULT_AGENT}', which is no registered agent."
        hint = f"There are: {', '.join(known) or 'none'}. A2A_AGENTS names the modules that declare more."
        found.append(Error(text, hint=hint, id="a2a.E002"))
    for name in known:
        if not AGENT_NAME.fullmatch(name):
            hint = "Small letters, digits and hyphens, not first a hyphen, at most 63: the name stands in addresses."
            found.append(Error(f"The agent name '{name}' cannot stand in an address.", hint=hint, id="a2a.E003"))
    return found


@register
def numbers(**_: Any) -> list[CheckMessage]:
    """E004: numbers that must be above zero."""
    return [
        Error(f"{name} is {getattr(settings, name)}.", hint="It must be more than 0.", id="a2a.E004")
        for name in POSITIVE
        if not getattr(settings, name) > 0
    ]


@register
def leases(**_: Any) -> list[CheckMessage]:
    """E005, W001, W002: how heartbeat, sweep and lease must relate."""
    lease_s, heartbeat_s, sweep_s = settings.A2A_LEASE_S, settings.A2A_HEARTBEAT_S, settings.A2A_SWEEP_S
    found: list[CheckMessage] = []
    if heartbeat_s >= lease_s / 3:
        text = f"A2A_HEARTBEAT_S ({heartbeat_s}) is not less than a third of A2A_LEASE_S ({lease_s})."
        hint = "Two late heartbeats would cost a healthy worker its tasks. Shorten the one or lengthen the other."
        found.append(Error(text, hint=hint, id="a2a.E005"))
    if sweep_s > lease_s:
        text = f"A2A_SWEEP_S ({sweep_s}) is longer than A2A_LEASE_S ({lease_s})."
        hint = "A dead worker's task waits for the sweep, not for its lease. Sweep at least once a lease."
        found.append(Warning(text, hint=hint, id="a2a.W001"))
    republish_s = settings.A2A_REPUBLISH_S
    if republish_s >= lease_s:
        text = f"A2A_REPUBLISH_S ({republish_s}) is not less than A2A_LEASE_S ({lease_s})."
        hint = "What the broker lost is published again later than a dead worker's task: make it a few seconds."
        found.append(Warning(text, hint=hint, id="a2a.W002"))
    return found


@register
def broker(**_: Any) -> list[CheckMessage]:
    """E006 for a scheme that is not supported, E015 for libraries that are missing; W003, W007: what a broker lacks."""
    url = settings.CELERY_BROKER_URL
    kind = options.kind(url)
    if not kind:
        text = f"A2A_BROKER_URL has the scheme '{urlsplit(url).scheme}', which is not supported."
        return [Error(text, hint=f"Supported are {', '.join(options.SCHEMES)}.", id="a2a.E006")]
    if kind == options.MEMORY:
        text = "A2A_BROKER_URL is memory://, which reaches no other process: no worker would get a task."
        return [Warning(text, hint="It is for tests of one process. Use amqp:// or redis://.", id="a2a.W003")]
    if kind == options.SQS:
        return _sqs()
    return []


def _sqs() -> list[CheckMessage]:
    missing = [name for name in SQS_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        text = f"A2A_BROKER_URL is sqs://, and {' and '.join(missing)} cannot be imported."
        return [Error(text, hint="Run: pip install --require-hashes -r requirements-sqs.txt", id="a2a.E015")]
    text = "A2A_BROKER_URL is sqs://, where workers hear no remote control and send no events."
    hint = "Flower shows nothing, and its revokes reach nobody: leave it out. Cancel in the admin or by the API."
    return [Warning(text, hint=hint, id="a2a.W007")]


@register
def broker_options(**_: Any) -> list[CheckMessage]:
    """E013: options that cannot be read, E014: a prefix that queues' names cannot carry."""
    found: list[CheckMessage] = []
    try:
        options.given(settings.A2A_BROKER_OPTIONS)
    except ValueError as error:
        hint = 'It is a JSON object of options of kombu\'s transport, such as {"region":"eu-central-1"}.'
        found.append(Error(f"A2A_BROKER_OPTIONS cannot be read: {error}.", hint=hint, id="a2a.E013"))
    if not QUEUE_PREFIX.fullmatch(settings.A2A_QUEUE_PREFIX):
        text = f"A2A_QUEUE_PREFIX is '{settings.A2A_QUEUE_PREFIX}', which cannot begin the name of a queue."
        hint = "At most 40 letters, digits, dots, hyphens and underscores, such as 'staging.'."
        found.append(Error(text, hint=hint, id="a2a.E014"))
    return found


@register
def database_engine(**_: Any) -> list[CheckMessage]:
    """E007: the engine's statements are PostgreSQL's."""
    engine = settings.DATABASES["default"]["ENGINE"]
    if engine == "django.db.backends.postgresql":
        return []
    hint = "Set DATABASE_URL=postgresql://user:password@host:5432/name."
    return [Error(f"The database is not PostgreSQL but {engine}.", hint=hint, id="a2a.E007")]


@register(Tags.database)
def database_server(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E008 if PostgreSQL does not answer within five seconds, E009 if it is too old."""
    if "default" not in (databases or ()) or database_engine():
        return []
    try:
        version = _server_version()
    except DatabaseError as error:
        hint = "Is it running, and are host, port, user, password and name in DATABASE_URL right?"
        reason = str(error).strip().splitlines()[0]
        return [Error(f"PostgreSQL cannot be reached: {reason}", hint=hint, id="a2a.E008")]
    if version >= POSTGRESQL_MIN:
        return []
    text = f"PostgreSQL {version // 10_000} is too old."
    return [Error(text, hint=f"It must be {POSTGRESQL_MIN // 10_000} or later.", id="a2a.E009")]


@register
def open_mode(**_: Any) -> list[CheckMessage]:
    """E010, or W004 in development: the open mode trusts loopback, and behind a proxy everybody comes from there."""
    beyond = [host for host in settings.ALLOWED_HOSTS if host not in LOOPBACK]
    if not settings.A2A_OPEN_MODE or not beyond:
        return []
    text = f"The open mode is on, and the server answers to more than loopback: {', '.join(beyond)}."
    hint = "Behind a proxy every request comes from loopback and needs no key. Turn A2A_OPEN_MODE off, make API keys."
    if settings.DEBUG:
        return [Warning(text, hint=hint, id="a2a.W004")]
    return [Error(text, hint=hint, id="a2a.E010")]


@register
def public_url(**_: Any) -> list[CheckMessage]:
    """E011 for a base of addresses that is none, W005 for one that sends clients around TLS."""
    if not settings.A2A_PUBLIC_URL:
        return []
    parts = urlsplit(settings.A2A_PUBLIC_URL)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        text = f"A2A_PUBLIC_URL is '{settings.A2A_PUBLIC_URL}', which is no address of a server."
        return [Error(text, hint="It looks like https://tasks.example.", id="a2a.E011")]
    if settings.A2A_TLS and parts.scheme == "http":
        hint = "Every request would be redirected to https, and a redirected POST loses its body. Use https there."
        return [Warning("A2A_TLS is on, but A2A_PUBLIC_URL begins with http://.", hint=hint, id="a2a.W005")]
    return []


@register
def declared_schedules(**_: Any) -> list[CheckMessage]:
    """E024 for schedules that cannot be read."""
    try:
        declared.read(settings.A2A_SCHEDULES)
    except (ValueError, OSError) as error:
        hint = "docs/schedules.md shows a list."
        return [Error(f"A2A_SCHEDULES cannot be read: {error}.", hint=hint, id="a2a.E024")]
    return []


@register
def archive_to(**_: Any) -> list[CheckMessage]:
    """E025 for an archive that cannot be written to."""
    if not settings.A2A_ARCHIVE_TO:
        return []
    from tasks_app import archive

    try:
        archive.sink(settings.A2A_ARCHIVE_TO)
    except ValueError as error:
        hint = "It is a folder, storage:<alias of STORAGES>, or mongodb://host/database."
        return [Error(f"A2A_ARCHIVE_TO cannot be used: {error}.", hint=hint, id="a2a.E025")]
    return []


@register
def artifact_storage(**_: Any) -> list[CheckMessage]:
    """E018 for a place where contents cannot stand, E019 for one that needs what is not installed."""
    places: list[str] = settings.A2A_ARTIFACT_STORAGE
    hint = "It is database, the absolute path of a folder, or s3://bucket/folder."
    found: list[CheckMessage] = [
        Error(f"A2A_ARTIFACT_STORAGE: '{place}' is no place.", hint=hint, id="a2a.E018")
        for place in places or [""]
        if not is_place(place)
    ]
    if any(kind(place) == S3 for place in places) and importlib.util.find_spec("storages") is None:
        hint = "Run: pip install --require-hashes -r requirements-s3.txt"
        found.append(Error("A2A_ARTIFACT_STORAGE is in S3, and storages cannot be imported.", hint=hint, id="a2a.E019"))
    return found


@register
def token_issuers(**_: Any) -> list[CheckMessage]:
    """E020 for issuers that cannot be read."""
    try:
        tokens.issuers(settings.A2A_JWT_ISSUERS)
    except ValueError as error:
        hint = "docs/authentication.md shows one, with all of its fields."
        return [Error(f"A2A_JWT_ISSUERS cannot be read: {error}.", hint=hint, id="a2a.E020")]
    return []


@register
def agent_cards(**_: Any) -> list[CheckMessage]:
    """E021 for half a provider, E022 for a key that cannot sign, E023 for a card that lacks what A2A requires."""
    # Here, because only the web process needs them.
    from tasks_app.a2a import agent_card, card_signing

    if bool(settings.A2A_PROVIDER_NAME) != bool(settings.A2A_PROVIDER_URL):
        text = "Of A2A_PROVIDER_NAME and A2A_PROVIDER_URL only one is set."
        return [Error(text, hint="A card names both, or no provider.", id="a2a.E021")]
    try:
        card_signing.signer(settings.A2A_CARD_SIGNING_KEY, settings.A2A_CARD_SIGNING_KID)
    except (OSError, ValueError) as error:
        hint = "openssl ecparam -name prime256v1 -genkey -noout -out card.pem"
        text = f"A2A_CARD_SIGNING_KEY cannot sign: {type(error).__name__}: {error}."
        return [Error(text, hint=hint, id="a2a.E022")]
    if token_issuers():
        return []
    found: list[CheckMessage] = []
    site = agent_card.Site.at("https://localhost")
    for name, spec in sorted(agents.registered().items()):
        lacks = agent_card.missing(agent_card.public(spec, site))
        if lacks:
            hint = "Declare it; A2A 1.0, section 4.4, says what each is."
            found.append(Error(f"The card of '{name}' lacks {', '.join(lacks)}.", hint=hint, id="a2a.E023"))
    return found


@register
def push_notifications(**_: Any) -> list[CheckMessage]:
    """E016 for a key that seals nothing, E017 for an exception of addresses that cannot be read."""
    # Here, since every process registers the checks and few need these.
    from cryptography.fernet import Fernet

    from tasks_app.push.guard import rule

    found: list[CheckMessage] = []
    keys = [(name, *each) for name in ("A2A_SECRET_KEYS", "A2A_CONTENT_KEYS") for each in enumerate(_keys(name), 1)]
    for name, number, key in keys:
        try:
            Fernet(key)
        except ValueError:  # without the key: it is a secret
            hint = (
                'Each is 32 bytes in URL-safe base64: "from cryptography.fernet import Fernet; Fernet.generate_key()".'
            )
            found.append(Error(f"{name}: key {number} is malformed.", hint=hint, id="a2a.E016"))
    for name in ("A2A_PUSH_ALLOWED", "A2A_FETCH_ALLOWED"):
        for text in getattr(settings, name):
            try:
                rule(text)
            except ValueError as error:
                hint = "It looks like hooks.internal, hooks.internal:8443, 10.0.0.0/8, 10.0.0.0/8:443 or [::1]:9000."
                found.append(Error(f"{name}: {error}.", hint=hint, id="a2a.E017"))
    return found


@register(Tags.security, deploy=True)
def open_mode_in_production(**_: Any) -> list[CheckMessage]:
    """E012: a deployment never runs in the open mode."""
    if not settings.A2A_OPEN_MODE:
        return []
    hint = "Turn A2A_OPEN_MODE off; clients then need API keys."
    return [Error("The open mode is on: requests without a key are accepted.", hint=hint, id="a2a.E012")]


@register(Tags.security, deploy=True)
def broker_guest(**_: Any) -> list[CheckMessage]:
    """W006: RabbitMQ's well-known account, over a network."""
    parts = urlsplit(settings.CELERY_BROKER_URL)
    if parts.username != "guest" or parts.hostname in LOOPBACK:
        return []
    hint = "Make a user for this system, and delete guest."
    return [Warning("A2A_BROKER_URL uses the well-known account 'guest'.", hint=hint, id="a2a.W006")]


def _keys(name: str) -> list[str]:
    return list(getattr(settings, name))


def _server_version() -> int:
    """The server's version as PostgreSQL counts (150004 is 15.4), over a connection of its own that waits little."""
    probe = cast(DatabaseWrapper, connections["default"].copy())
    connect: dict[str, Any] = probe.settings_dict["OPTIONS"]
    connect.pop("pool", None)
    connect["connect_timeout"] = CONNECT_TIMEOUT_S
    try:
        return probe.pg_version
    finally:
        probe.close()
