"""Files that stand at a client's URL: fetched from addresses that were judged, bounded in time and size.

The client's word leads there and what connects stands inside our network: the guard is that of notifications (A2A 1.0,
section 14.1.1), with exceptions of its own. Redirects are judged like the first address.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urljoin

import httpcore
import httpx
from django.conf import settings

from artifacts_app.sniffing import START_BYTES, plainly_other
from tasks_app.agents import AgentError
from tasks_app.push.guard import Forbidden, Guard, resolve, rule
from workers.webhook import CONNECT_S, GuardedBackend

REDIRECTS_MAX = 5
#: What another try may mend (RFC 9110, section 15).
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Refused(Exception):
    """Why there is no file; ``again`` if another try may find one."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def fetch(url: str, into: Path, *, media_type: str = "") -> Path:
    """The file that stands at the URL, under this path. Waits for it: from a coroutine, call it in a thread.

    ``media_type`` is what it is said to be. Raises AgentError with the code ``fetch_failed``, to be tried again where
    that may help.
    """
    try:
        asyncio.run(_within(url, into, media_type))
    except (_Refused, Forbidden, httpcore.UnsupportedProtocol, httpx.InvalidURL, ValueError) as error:
        again = isinstance(error, _Refused) and error.again
        raise AgentError(f"the file cannot be fetched: {error}", code="fetch_failed", retryable=again) from error
    except TimeoutError as error:
        late = f"the file did not come within {settings.A2A_FETCH_TIMEOUT_S:g} s"
        raise AgentError(late, code="fetch_failed", retryable=True) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise AgentError(f"the file cannot be fetched: {reason}", code="fetch_failed", retryable=True) from error
    return into


async def _within(url: str, into: Path, media_type: str) -> None:
    guard = Guard([rule(text) for text in settings.A2A_FETCH_ALLOWED], resolve)
    pool = httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(), max_connections=1, network_backend=GuardedBackend(guard)
    )
    async with asyncio.timeout(settings.A2A_FETCH_TIMEOUT_S), pool:
        for _ in range(REDIRECTS_MAX + 1):
            moved_to = await _get(pool, _checked(url), into, media_type)
            if moved_to is None:
                return
            if url.startswith("https:") and not moved_to.startswith("https:"):
                raise _Refused("it is redirected from https to what is not")
            url = moved_to
    raise _Refused(f"it is redirected more than {REDIRECTS_MAX} times")


def _checked(text: str) -> httpx.URL:
    url = httpx.URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise _Refused("it must be an http or https URL")
    if url.userinfo:
        raise _Refused("its URL may not hold credentials")
    return url


async def _get(pool: httpcore.AsyncConnectionPool, url: httpx.URL, into: Path, media_type: str) -> str | None:
    """Writes what is there into the file; where it is instead, if that is what the answer says."""
    async with pool.stream(
        "GET",
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        # As it is: what inflates on arrival could be of any size.
        headers=[(b"Host", url.netloc), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"a2a-task-manager")],
        extensions={"timeout": dict.fromkeys(("read", "write", "pool"), settings.A2A_FETCH_TIMEOUT_S) | _CONNECT},
    ) as response:
        said = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and "location" in said:
            return urljoin(str(url), said["location"])
        if response.status != 200:
            raise _Refused(f"{url.host} answered {response.status}", again=response.status in _TRANSIENT)
        if said.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise _Refused(f"{url.host} sent it as {said['content-encoding'][:40]}, which was not asked for")
        await _write(response, into, media_type)
    return None


_CONNECT = {"connect": CONNECT_S}


async def _write(response: httpcore.Response, into: Path, media_type: str) -> None:
    limit, size_bytes, start = settings.A2A_MAX_FILE_BYTES, 0, b""
    with into.open("wb") as file:
        async for piece in response.aiter_stream():
            size_bytes += len(piece)
            if size_bytes > limit:
                raise _Refused(f"it has more than {limit} bytes")
            start += piece[: START_BYTES - len(start)]
            file.write(piece)
    shown = plainly_other(media_type, start)
    if shown is not None:
        raise _Refused(f"it is said to be {media_type}, and its bytes are {shown}")
