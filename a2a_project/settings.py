"""The one settings file, driven by the environment. Each ``A2A_*`` variable stands here once, beside its default.

Values come, first found first used, from the process's environment, from ``.env``, and from ``.a2a/run/env``, which
a running local stack writes so that ``manage.py`` finds it.
"""

from pathlib import Path

import environ

from artifacts_app.storage.options import storages
from tasks_app.brokers.options import transport_options

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
for _file in (BASE_DIR / ".env", BASE_DIR / ".a2a" / "run" / "env"):
    if _file.is_file():
        env.read_env(_file)

# --- Core -----------------------------------------------------------------------------------------------------------
#: Development mode: tracebacks in pages. Never in production.
DEBUG = env.bool("A2A_DEBUG", default=False)
#: Open mode: requests without a key belong to the client ``local``. Loopback only; the demo and the tests set it.
A2A_OPEN_MODE = env.bool("A2A_OPEN_MODE", default=False)
#: Django's secret. Required unless the stack runs in open mode.
SECRET_KEY = env.str("A2A_SECRET_KEY", default="insecure-open-mode-only" if A2A_OPEN_MODE or DEBUG else "")
#: Host names the server answers to.
ALLOWED_HOSTS = env.list("A2A_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
#: Where clients reach this server: the base of the addresses in agent cards. Empty: taken from each request.
A2A_PUBLIC_URL = env.str("A2A_PUBLIC_URL", default="")
#: Where clients reach the gRPC server, as cards name it: host:port. Empty: no card names it.
A2A_GRPC_PUBLIC_URL = env.str("A2A_GRPC_PUBLIC_URL", default="")
#: Who provides the agents, as their cards say it: an organisation's name, and its website. Both or none.
A2A_PROVIDER_NAME = env.str("A2A_PROVIDER_NAME", default="")
A2A_PROVIDER_URL = env.str("A2A_PROVIDER_URL", default="")
#: The private key that signs agent cards: the path of a PEM file, or the PEM itself. Empty: they are not signed.
A2A_CARD_SIGNING_KEY = env.str("A2A_CARD_SIGNING_KEY", default="")
#: The key's name in signatures. Empty: its thumbprint.
A2A_CARD_SIGNING_KID = env.str("A2A_CARD_SIGNING_KID", default="")
#: Served over TLS (behind a proxy): secure cookies, HSTS, redirect to https.
A2A_TLS = env.bool("A2A_TLS", default=not (DEBUG or A2A_OPEN_MODE))

# --- Who may ask (beside clients' API keys) -------------------------------------------------------------------------
#: Issuers of bearer tokens that are accepted, as a JSON list of objects; see ``tokens.Issuer`` for their fields.
A2A_JWT_ISSUERS = env.str("A2A_JWT_ISSUERS", default="")

# --- Agents ---------------------------------------------------------------------------------------------------------
BUILT_IN_AGENTS = ["workers.agents.basic", "workers.agents.imaging"]
#: More agents: dotted paths of modules on the Python path, comma-separated.
A2A_AGENTS = BUILT_IN_AGENTS + env.list("A2A_AGENTS", default=[])
#: The agent that answers at ``/`` and ``/.well-known/agent-card.json``.
A2A_DEFAULT_AGENT = env.str("A2A_DEFAULT_AGENT", default="echo")

# --- What a worker has, for agents that declare what they need ------------------------------------------------------
#: MiB of memory; 0: as much as the machine, or the worker's control group, has.
A2A_WORKER_MEMORY_MB = env.int("A2A_WORKER_MEMORY_MB", default=0)
#: Processor cores; 0: as many as the machine has.
A2A_WORKER_CORES = env.float("A2A_WORKER_CORES", default=0.0)
#: MiB of scratch files; 0: what is free when the worker starts, where ``TMPDIR`` points.
A2A_WORKER_DISK_MB = env.int("A2A_WORKER_DISK_MB", default=0)

# --- Limits of a request --------------------------------------------------------------------------------------------
#: The largest request body, in bytes.
A2A_MAX_BODY_BYTES = env.int("A2A_MAX_BODY_BYTES", default=32 * 1024 * 1024)
#: The largest artifact a handler may make, in bytes.
A2A_MAX_ARTIFACT_BYTES = env.int("A2A_MAX_ARTIFACT_BYTES", default=64 * 1024 * 1024)
#: The longest a blocking SendMessage waits, in seconds, before it answers with the task as it stands.
A2A_BLOCKING_WAIT_S = env.float("A2A_BLOCKING_WAIT_S", default=300.0)

# --- Where contents stand -------------------------------------------------------------------------------------------
#: Of artifacts' parts and messages' files: database, a folder's path, or s3://bucket/folder, comma-separated: the first
#: is written to, all are read. Credentials of S3 are the AWS SDK's.
A2A_ARTIFACT_STORAGE = env.list("A2A_ARTIFACT_STORAGE", default=["database"])
#: What has at most so many bytes stays in its row; with A2A_CONTENT_KEYS nothing does.
A2A_ARTIFACT_INLINE_BYTES = env.int("A2A_ARTIFACT_INLINE_BYTES", default=64 * 1024)
#: Keys that seal contents, comma-separated: the first seals, all open. Empty: none are. S3 seals what it holds itself.
A2A_CONTENT_KEYS = env.list("A2A_CONTENT_KEYS", default=[])
#: The largest file that a client may send by itself, or a handler make an artifact of, in bytes.
A2A_MAX_FILE_BYTES = env.int("A2A_MAX_FILE_BYTES", default=4 * 1024**3)
#: How long a file that a client has sent may be named in messages, in days. Those that name it keep it.
A2A_KEEP_UPLOADS_DAYS = env.float("A2A_KEEP_UPLOADS_DAYS", default=1.0)
#: From where handlers may fetch what clients' URLs name, besides the internet: as A2A_PUSH_ALLOWED.
A2A_FETCH_ALLOWED = env.list("A2A_FETCH_ALLOWED", default=[])
#: How long such a file may take to come, in seconds.
A2A_FETCH_TIMEOUT_S = env.float("A2A_FETCH_TIMEOUT_S", default=60.0)
#: How S3 is told to seal: AES256, aws:kms, or empty where it cannot.
A2A_S3_ENCRYPTION = env.str("A2A_S3_ENCRYPTION", default="AES256")

# --- Leases, dispatch, sweeps (seconds, unless the name says otherwise) ----------------------------------------------
#: How long a claim holds without a heartbeat.
A2A_LEASE_S = env.float("A2A_LEASE_S", default=30.0)
#: How often a worker process extends its leases and its own row.
A2A_HEARTBEAT_S = env.float("A2A_HEARTBEAT_S", default=5.0)
#: Ageing: waiting this long lifts a task by one level of priority.
A2A_AGEING_S = env.float("A2A_AGEING_S", default=600.0)
#: What the broker has not delivered after this long is published again; then the interval doubles.
A2A_REPUBLISH_S = env.float("A2A_REPUBLISH_S", default=2.0)
#: How often beat looks for expired leases.
A2A_SWEEP_S = env.float("A2A_SWEEP_S", default=5.0)
#: How long a worker that shuts down lets its attempts end by themselves before it hands them back; 0: at once.
A2A_SHUTDOWN_GRACE_S = env.float("A2A_SHUTDOWN_GRACE_S", default=1.0)
#: How long a handler that was told to stop may go on: then its process is killed, or a coroutine reported.
A2A_STOP_GRACE_S = env.float("A2A_STOP_GRACE_S", default=5.0)

# --- Turns ------------------------------------------------------------------------------------------------------------
#: How many messages may wait for the turns of one task; more are refused with 429.
A2A_MAX_UNREAD = env.int("A2A_MAX_UNREAD", default=100)

# --- Retention (days; 0 keeps for ever) -------------------------------------------------------------------------------
#: How long completed, cancelled and rejected tasks are kept after their end, with all that belongs to them.
A2A_KEEP_DAYS = env.float("A2A_KEEP_DAYS", default=30.0)
#: How long failed tasks are kept: they wait to be looked at and run again.
A2A_KEEP_FAILED_DAYS = env.float("A2A_KEEP_FAILED_DAYS", default=90.0)
#: Where they are written before they are deleted: a folder, storage:<alias>, mongodb://…; empty: nowhere.
A2A_ARCHIVE_TO = env.str("A2A_ARCHIVE_TO", default="")
#: How often beat deletes what is past its time, in seconds.
A2A_PRUNE_S = env.float("A2A_PRUNE_S", default=60.0)

# --- Schedules ------------------------------------------------------------------------------------------------------
#: Schedules that are declared here, as a JSON list or the path of a file with one: see docs/schedules.md.
A2A_SCHEDULES = env.str("A2A_SCHEDULES", default="")
#: How often beat looks for schedules that are due, in seconds.
A2A_FIRE_S = env.float("A2A_FIRE_S", default=1.0)

# --- Push notifications -----------------------------------------------------------------------------------------------
#: Keys that seal secrets in the database, comma-separated: the first seals, all open. Empty: one from the secret key.
A2A_SECRET_KEYS = env.list("A2A_SECRET_KEYS", default=[])
#: Where they may go besides the internet: hosts and networks, each with or without a port, comma-separated.
A2A_PUSH_ALLOWED = env.list("A2A_PUSH_ALLOWED", default=[])
#: How many webhooks a task may have.
A2A_PUSH_MAX_PER_TASK = env.int("A2A_PUSH_MAX_PER_TASK", default=10)
#: A webhook is dead after so many failures in a row: with the backoff of workers/push.py about a day.
A2A_PUSH_MAX_FAILURES = env.int("A2A_PUSH_MAX_FAILURES", default=56)
#: How often beat looks for events that are to be sent, in seconds.
A2A_PUSH_SWEEP_S = env.float("A2A_PUSH_SWEEP_S", default=1.0)

# --- Metrics for Prometheus ------------------------------------------------------------------------------------------
#: The address at which every process exports its metrics; each kind of process has a port of its own, 0 is off.
A2A_METRICS_HOST = env.str("A2A_METRICS_HOST", default="127.0.0.1")
#: Beside ``/metrics`` of its own port, which answers to this machine only.
A2A_WEB_METRICS_PORT = env.int("A2A_WEB_METRICS_PORT", default=0)
A2A_DISPATCHER_METRICS_PORT = env.int("A2A_DISPATCHER_METRICS_PORT", default=8011)
A2A_CPU_METRICS_PORT = env.int("A2A_CPU_METRICS_PORT", default=8012)
A2A_IO_METRICS_PORT = env.int("A2A_IO_METRICS_PORT", default=8013)
A2A_SYSTEM_METRICS_PORT = env.int("A2A_SYSTEM_METRICS_PORT", default=8014)
A2A_GRPC_METRICS_PORT = env.int("A2A_GRPC_METRICS_PORT", default=8015)

# --- The gRPC binding -----------------------------------------------------------------------------------------------
#: The address at which ``manage.py grpc`` listens, without TLS.
A2A_GRPC_HOST = env.str("A2A_GRPC_HOST", default="127.0.0.1")
A2A_GRPC_PORT = env.int("A2A_GRPC_PORT", default=50051)

# --- Database: the truth ----------------------------------------------------------------------------------------------
DATABASES = {"default": env.db_url("DATABASE_URL", default="postgresql://a2a@127.0.0.1:5432/a2a")}
#: Lets the engine's statements be prepared (Django turns it off; its own queries still bind in the client), planned
#: once per connection, and by index whatever a young table's statistics say.
DATABASES["default"].setdefault("OPTIONS", {}).update(
    prepare_threshold=1, options="-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"
)
# A database that is silently gone is noticed within seconds, not after the kernel's quarter of an hour.
for _name, _value in {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}.items():
    DATABASES["default"]["OPTIONS"].setdefault(_name, _value)
#: Threads of the web process share this many connections; workers keep one each.
A2A_WEB_POOL_SIZE = env.int("A2A_WEB_POOL_SIZE", default=8)
if env.bool("A2A_DB_POOL", default=False):
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": A2A_WEB_POOL_SIZE}
    # So that what the server closed is replaced when it is next asked for, not found out by a request.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
else:
    DATABASES["default"]["CONN_MAX_AGE"] = None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis: what may be lost (wake-ups, rate counters) ----------------------------------------------------------------
#: Empty: no doorbell, everybody polls; each web process counts clients' submits by itself.
REDIS_URL = env.str("REDIS_URL", default="")

# --- Celery: broker and jobs -----------------------------------------------------------------------------------------
CELERY_BROKER_URL = env.str("A2A_BROKER_URL", default="amqp://guest:guest@127.0.0.1:5672//")
#: More options for kombu's transport of that broker, as a JSON object; see tasks_app/brokers/options.py for ours.
A2A_BROKER_OPTIONS = env.str("A2A_BROKER_OPTIONS", default="")
CELERY_BROKER_TRANSPORT_OPTIONS = transport_options(CELERY_BROKER_URL, A2A_BROKER_OPTIONS)
#: Stands before the name of each queue and exchange, so that two installations can share one broker.
A2A_QUEUE_PREFIX = env.str("A2A_QUEUE_PREFIX", default="")
#: Celery's Django fixup would close the connection around every job; keep it.
CELERY_DB_REUSE_MAX = 1_000_000_000
#: Prefork, handing over what its children died of; of the cpu lane; io workers have their own, see workers/signals.py.
CELERY_WORKER_POOL = "workers.pool:TaskPool"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
#: A queue that is deleted between its declaration and the consumer's start would end the worker.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- Django -----------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    # Without autodiscovery: only the web process needs the admin; it saves the others 20 MB each. See urls.py.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_celery_beat",
    "django_prometheus",
    "artifacts_app",
    "tasks_app",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "a2a_project.urls"
ASGI_APPLICATION = "a2a_project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_REDIRECT_URL = "/admin/"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    **storages(A2A_ARTIFACT_STORAGE, encryption=A2A_S3_ENCRYPTION),
}
DATA_UPLOAD_MAX_MEMORY_SIZE = A2A_MAX_BODY_BYTES

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tasks_app.api.authentication.ClientAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tasks_app.api.permissions.HasScopes"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tasks_app.api.parsers.FastJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "tasks_app.api.pagination.NewestFirst",
    "EXCEPTION_HANDLER": "tasks_app.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {"TITLE": "A2A task manager", "VERSION": "0.1.0", "SERVE_INCLUDE_SCHEMA": False}

# --- Security in production -------------------------------------------------------------------------------------------
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if A2A_TLS else None
SECURE_SSL_REDIRECT = A2A_TLS
SESSION_COOKIE_SECURE = A2A_TLS
CSRF_COOKIE_SECURE = A2A_TLS
SECURE_HSTS_SECONDS = 31_536_000 if A2A_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = A2A_TLS
SECURE_HSTS_PRELOAD = A2A_TLS
CSRF_TRUSTED_ORIGINS = env.list("A2A_CSRF_TRUSTED_ORIGINS", default=[])

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "tasks_app.logs.formatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("A2A_LOG_LEVEL", default="INFO")},
    "loggers": {"httpx": {"level": "WARNING"}, "a2a.client": {"level": "WARNING"}},
}

UNFOLD = {
    "SITE_TITLE": "A2A task manager",
    "SITE_HEADER": "A2A task manager",
    "SITE_SYMBOL": "conversion_path",
    "SITE_URL": None,
    "ENVIRONMENT": "tasks_app.admin.site.environment",
    "SHOW_HISTORY": False,
    "SHOW_BACK_BUTTON": True,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "tasks_app.admin.site.favicon"}],
    "STYLES": ["tasks_app.admin.site.stylesheet"],
    "SCRIPTS": ["tasks_app.admin.site.script"],
    "SIDEBAR": {"show_search": False, "show_all_applications": False, "navigation": "tasks_app.admin.site.navigation"},
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.604)",
            "100": "oklch(93.2% .032 255.585)",
            "200": "oklch(88.2% .059 254.128)",
            "300": "oklch(80.9% .105 251.813)",
            "400": "oklch(70.7% .165 254.624)",
            "500": "oklch(62.3% .214 259.815)",
            "600": "oklch(54.6% .245 262.881)",
            "700": "oklch(48.8% .243 264.376)",
            "800": "oklch(42.4% .199 265.638)",
            "900": "oklch(37.9% .146 265.522)",
            "950": "oklch(28.2% .091 267.935)",
        },
    },
}
