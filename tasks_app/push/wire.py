"""TaskPushNotificationConfig ↔ values: what a client may ask for, and what it is shown (A2A 1.0, sections 4.3.1, 13.2).

Secrets are written and never read: what is shown has neither ``token`` nor ``authentication.credentials``.
"""

from __future__ import annotations

import asyncio
import base64
import re
from uuid import uuid4

import httpx
from a2a.types import AuthenticationInfo, TaskPushNotificationConfig

from tasks_app.a2a.errors import invalid
from tasks_app.push.guard import Forbidden, Guard
from tasks_app.push.sealing import seal
from tasks_app.push.values import NewPush, Push

ID_MAX_CHARS = 128
URL_MAX_CHARS = 2048
#: Of a name in the DNS (RFC 1035, section 2.3.4).
HOST_MAX_CHARS = 253
SECRET_MAX_CHARS = 4096
#: A client waits no longer than this for a slow name server.
RESOLVE_S = 3.0
#: What can stand in a header (RFC 9110, section 5.5) on every way: printable ASCII, no blank at either end.
_HEADER = re.compile(r"[!-~]([ -~]*[!-~])?")
#: A token of RFC 9110, section 5.6.2, as authentication schemes are.
_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_PORTS = {"http": 80, "https": 443}


def asked(config: TaskPushNotificationConfig, *, path: str = "") -> NewPush:
    """The webhook that a client asks for. ``path`` is what stands before the names of its fields in the request.

    Raises InvalidParamsError naming the field that is missing or cannot be sent.
    """
    url = _url(config.url, f"{path}url")
    if len(config.id) > ID_MAX_CHARS or not config.id.isprintable():
        raise invalid(f"{path}id", f"must have at most {ID_MAX_CHARS} characters, all of them printable")
    scheme = ""
    if config.HasField("authentication"):
        scheme = config.authentication.scheme
        if not _SCHEME.fullmatch(scheme):
            problem = "must be the name of an HTTP authentication scheme, such as Bearer" if scheme else "is required"
            raise invalid(f"{path}authentication.scheme", problem)
    return NewPush(
        config_id=config.id or str(uuid4()),
        named=bool(config.id),
        url=config.url,
        host=_host(url),
        token=_secret(config.token, f"{path}token"),
        scheme=scheme,
        credentials=_secret(config.authentication.credentials, f"{path}authentication.credentials"),
    )


async def screen(push: NewPush, guard: Guard, *, path: str = "") -> None:
    """Raises InvalidParamsError if the url's host resolves to what may not be connected to.

    A name that does not resolve now is let through: it may by then, and is judged again at each connection.
    """
    url = httpx.URL(push.url)
    try:
        async with asyncio.timeout(RESOLVE_S):
            await guard.addresses(url.raw_host.decode(), url.port or _PORTS[url.scheme])
    except Forbidden:
        # Not which one: that would tell a client what the names of our own network stand for.
        raise invalid(f"{path}url", "the host is at an address that is not a public address") from None
    except OSError:  # TimeoutError is one
        return


def shown(push: Push) -> TaskPushNotificationConfig:
    """The config as its client may see it."""
    made = TaskPushNotificationConfig(id=push.config_id, task_id=str(push.task_id), url=push.url)
    if push.scheme:
        made.authentication.CopyFrom(AuthenticationInfo(scheme=push.scheme))
    return made


def page_token(config_id: str) -> str:
    """Where the next page begins, as the client is told; empty after the last one."""
    return base64.urlsafe_b64encode(config_id.encode()).decode()


def after(token: str, *, path: str = "pageToken") -> str:
    """The id that a page token stands for. Raises InvalidParamsError."""
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        text = "\x00"
    if "\x00" in text:
        raise invalid(path, "is none that was given out here")
    return text


def _url(text: str, path: str) -> httpx.URL:
    """Read by the parser that will be used to connect, so that both see the same host."""
    if not text:
        raise invalid(path, "is required")
    if len(text) > URL_MAX_CHARS:
        raise invalid(path, f"must have at most {URL_MAX_CHARS} characters")
    try:
        url = httpx.URL(text)
        host = url.host  # decodes an internationalised name, which may be none
    except (httpx.InvalidURL, ValueError) as error:
        raise invalid(path, f"cannot be read: {str(error)[:200]}") from None
    if url.scheme not in _PORTS or not host or not text.isprintable() or " " in text:
        raise invalid(path, "must be an http:// or https:// address")
    if len(url.raw_host) > HOST_MAX_CHARS:
        raise invalid(path, f"must have a host of at most {HOST_MAX_CHARS} characters")
    if url.userinfo:
        raise invalid(path, "may not hold a user or a password; use authentication")
    if url.port is not None and not 0 < url.port < 65_536:
        raise invalid(path, "has a port that is none")
    return url


def _host(url: httpx.URL) -> str:
    host = url.netloc.decode()
    return host if url.port else f"{host}:{_PORTS[url.scheme]}"


def _secret(text: str, path: str) -> bytes | None:
    if not text:
        return None
    if len(text) > SECRET_MAX_CHARS or not _HEADER.fullmatch(text):
        # Without the text: it is a secret.
        raise invalid(path, f"must have at most {SECRET_MAX_CHARS} characters that can stand in an HTTP header")
    return seal(text.encode())
