"""One POST to a webhook: to addresses that were judged, without redirects or proxies, bounded in time and size.

httpcore, not httpx, because it lets the connection be made here (its network backends), and does nothing of itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType

import httpcore
import httpx

from tasks_app.push.guard import Forbidden, Guard

CONNECT_S = 5.0
#: All of it: name, connection, TLS, request and answer.
TOTAL_S = 15.0
#: As much of an answer is read, and none of it kept.
ANSWER_MAX_BYTES = 16_384
KEEP_ALIVE_S = 15.0
#: The longest that a Retry-After is heeded.
RETRY_AFTER_MAX_S = 3600.0
GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a POST: a status, or the error that came instead of it (status None)."""

    status: int | None = None
    retry_after_s: float = 0.0
    error: str = ""

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """The receiver wants no more (RFC 9110, section 15.5.11)."""
        return self.status == GONE


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that the guard has just judged; TLS is still verified for the name."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Tries each address in turn. Raises Forbidden, OSError, or httpcore's error of the last address."""
        addresses = await self._guard.addresses(host, port)
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise AssertionError("unreachable")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise Forbidden("a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Poster:
    """Posts over connections that are kept for the next event; an async context manager."""

    def __init__(self, guard: Guard, *, slots: int, tls: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(),
            max_connections=slots,
            max_keepalive_connections=slots,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=GuardedBackend(guard),
        )

    async def __aenter__(self) -> Poster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def post(self, url: str, headers: Sequence[tuple[str, str]], content: bytes) -> Answer:
        """What came of it, within ``TOTAL_S``; never raises."""
        try:
            async with asyncio.timeout(TOTAL_S):
                return await self._post(httpx.URL(url), headers, content)
        except TimeoutError:
            return Answer(error=f"no answer within {TOTAL_S:g} s")
        except Exception as error:
            return Answer(error=f"{type(error).__name__}: {error}".removesuffix(": "))

    async def _post(self, url: httpx.URL, headers: Sequence[tuple[str, str]], content: bytes) -> Answer:
        async with self._pool.stream(
            "POST",
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[(b"Host", url.netloc), (b"Content-Length", b"%d" % len(content)), *_encoded(headers)],
            content=content,
            extensions={"timeout": {"connect": CONNECT_S, "read": TOTAL_S, "write": TOTAL_S, "pool": TOTAL_S}},
        ) as response:
            await _drain(response)
            return _answer(response)


def _encoded(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]


async def _drain(response: httpcore.Response) -> None:
    """Reads a short answer to its end, so that the connection can be used again; one that goes on is cut off."""
    read = 0
    async for chunk in response.aiter_stream():
        read += len(chunk)
        if read > ANSWER_MAX_BYTES:
            return


def _answer(response: httpcore.Response) -> Answer:
    status = response.status
    if 200 <= status < 300:
        return Answer(status=status)
    error = f"answered {status}"
    if 300 <= status < 400:
        error += ": redirects are not followed"
    said = {name.lower(): value.decode("latin-1") for name, value in response.headers}.get(b"retry-after", "")
    return Answer(status=status, error=error, retry_after_s=retry_after_s(said, datetime.now(UTC)))


def retry_after_s(text: str, now: datetime) -> float:
    """How long a Retry-After asks to wait (RFC 9110, section 10.2.3), at most an hour; 0 where it says nothing."""
    try:
        if text.strip().isdecimal():
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text).astimezone(UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)
