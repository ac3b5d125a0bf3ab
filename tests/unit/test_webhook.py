"""One POST to a webhook: connected to where it was judged to be, verified by name, bounded in time and size."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks_app.push.guard import Guard, resolve, rule
from tests.receivers import receiver
from tests.unit.test_push_guard import Names
from workers import webhook
from workers.webhook import RETRY_AFTER_MAX_S, Answer, Poster, retry_after_s

LOOPBACK = [rule("127.0.0.1")]
HEADERS = [("Content-Type", "application/a2a+json")]


async def posted(url: str, guard: Guard, tls: ssl.SSLContext | None = None) -> Answer:
    async with Poster(guard, slots=4, tls=tls) as poster:
        return await poster.post(url, HEADERS, b"{}")


async def test_a_2xx_is_taken_and_the_host_header_names_the_url() -> None:
    with receiver() as hook:
        guard = Guard([rule("hooks.test")], Names(["127.0.0.1"]))
        answer = await posted(f"http://hooks.test:{hook.port}/a%20b?c=d#e", guard)
    assert answer == Answer(status=200)
    (request,) = hook.requests
    assert (request.path, request.headers["host"]) == ("/a%20b?c=d", f"hooks.test:{hook.port}")


async def test_a_private_address_is_never_connected_to() -> None:
    with receiver() as hook:
        answer = await posted(hook.url, Guard([], resolve))
    assert answer.status is None
    assert "not a public address" in answer.error
    assert hook.requests == []


async def test_a_name_that_is_rebound_after_it_was_judged_changes_nothing() -> None:
    """DNS rebinding: the name server says another address from the second question on."""
    with receiver() as hook:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        url = f"http://hooks.test:{hook.port}/"
        async with Poster(Guard(LOOPBACK, names), slots=4) as poster:
            assert (await poster.post(url, HEADERS, b"{}")).is_taken
            assert names.asked == 1, "the address that was judged is the one that was connected to"
        answer = await posted(url, Guard(LOOPBACK, names))
    assert "127.0.0.2, which is not a public address" in answer.error
    assert len(hook.requests) == 1


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    with receiver() as hook:
        guard = Guard([rule("127.0.0.0/8")], Names(["127.0.0.9", "127.0.0.1"]))
        assert (await posted(f"http://hooks.test:{hook.port}/", guard)).is_taken


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    with receiver() as inner, receiver() as hook:
        hook.reply = lambda request: (status, {"Location": inner.url})
        answer = await posted(hook.url, Guard(LOOPBACK, resolve))
    assert (answer.status, answer.is_taken) == (status, False)
    assert "redirects are not followed" in answer.error
    assert inner.requests == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy, receiver() as hook:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await posted(hook.url, Guard(LOOPBACK, resolve))).is_taken
    assert (len(hook.requests), len(proxy.requests)) == (1, 0)


async def test_one_connection_carries_many_events() -> None:
    with receiver() as hook:
        names = Names(["127.0.0.1"])
        async with Poster(Guard(LOOPBACK, names), slots=4) as poster:
            for _ in range(5):
                assert (await poster.post(f"http://hooks.test:{hook.port}/", HEADERS, b"{}")).is_taken
    assert (names.asked, len(hook.requests)) == (1, 5)


async def test_tls_is_verified_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    server, client = _contexts(tmp_path, "hooks.test")
    with receiver(server) as hook:
        guard = Guard([rule("127.0.0.1")], Names(["127.0.0.1"]))
        assert (await posted(f"https://hooks.test:{hook.port}/", guard, client)).is_taken
        other = await posted(f"https://other.test:{hook.port}/", guard, client)
        unknown = await posted(f"https://hooks.test:{hook.port}/", guard)
    assert "doesn't match" in other.error or "CERTIFICATE_VERIFY_FAILED" in other.error
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.error
    assert len(hook.requests) == 1


async def test_an_answer_that_does_not_end_is_cut_off() -> None:
    with _endless() as (port, stopped):
        answer = await posted(f"http://127.0.0.1:{port}/", Guard(LOOPBACK, resolve))
        assert answer.is_taken
        assert stopped.wait(timeout=10), "the connection was closed under it"


async def test_who_does_not_answer_is_given_up_after_the_time_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TOTAL_S", 0.3)
    held = threading.Event()
    with receiver() as hook:
        hook.reply = lambda request: ((held.wait(timeout=30) and 200) or 500, {})
        answer = await posted(hook.url, Guard(LOOPBACK, resolve))
        held.set()
    assert (answer.status, answer.error) == (None, "no answer within 0.3 s")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:9/", "ConnectError"),
        ("http://no-such-name.invalid/", "gaierror"),
    ],
)
async def test_a_webhook_that_is_not_there_is_an_answer_too(url: str, error: str) -> None:
    answer = await posted(url, Guard(LOOPBACK, resolve))
    assert answer.status is None
    assert error in answer.error


async def test_a_retry_after_is_heard() -> None:
    with receiver() as hook:
        hook.reply = lambda request: (503, {"Retry-After": "120"})
        assert await posted(hook.url, Guard(LOOPBACK, resolve)) == Answer(
            status=503, error="answered 503", retry_after_s=120.0
        )


def test_a_retry_after_is_seconds_or_an_instant_and_at_most_an_hour() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_s("7", now) == 7.0
    assert retry_after_s(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90.0
    assert retry_after_s(format_datetime(now - timedelta(seconds=90), usegmt=True), now) == 0.0
    assert retry_after_s("9" * 30, now) == RETRY_AFTER_MAX_S
    assert [retry_after_s(text, now) for text in ("", "soon", "-5", "1.5", "nan")] == [0.0] * 5


def _contexts(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server with a certificate for this name, and a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(pem))
    key_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_file, key_file)
    return server, ssl.create_default_context(cafile=str(cert_file))


@contextmanager
def _endless() -> Iterator[tuple[int, threading.Event]]:
    """A server that answers 200 and a body without end, and the event that its peer has hung up."""
    stopped = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        line, _ = listener.accept()
        with line:
            line.recv(65_536)
            try:
                line.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    line.sendall(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
            except OSError:
                stopped.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], stopped
    listener.close()
    thread.join(timeout=10)
