"""Files at clients' URLs: what may be fetched, from where, and how much of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from tasks_app.agents import AgentError
from tests.receivers import receiver
from workers import fetching
from workers.fetching import fetch


@pytest.fixture(autouse=True)
def _loopback(settings: Settings) -> None:
    settings.A2A_FETCH_ALLOWED = ["127.0.0.1"]
    settings.A2A_MAX_FILE_BYTES = 100_000


def refused(url: str, into: Path, **said: str) -> AgentError:
    with pytest.raises(AgentError) as caught:
        fetch(url, into / "file", **said)
    assert caught.value.code == "fetch_failed"
    return caught.value


def test_what_stands_there_is_fetched(tmp_path: Path) -> None:
    with receiver() as there:
        there.reply = lambda request: (200, {"Content-Type": "image/png"}, b"\x89PNG\r\n\x1a\n" + b"x" * 50_000)
        path = fetch(f"{there.url}?c=d%20e", tmp_path / "file", media_type="image/png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size == 50_008
    (request,) = there.requests
    assert (request.path, request.headers["accept-encoding"]) == ("/hook?c=d%20e", "identity")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x",
        "http://[::ffff:10.0.0.1]/",
    ],
)
def test_what_is_inside_our_network_is_not_looked_at(tmp_path: Path, url: str) -> None:
    error = refused(url, tmp_path)
    assert "not a public address" in str(error)
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http:///x", "a2a-blob:x", "http://u:p@127.0.0.1/"]
)
def test_what_is_no_address_of_a_file_is_refused(tmp_path: Path, url: str) -> None:
    assert not refused(url, tmp_path).retryable


def test_a_redirect_leads_where_it_may_lead_and_nowhere_else(tmp_path: Path) -> None:
    with receiver() as last, receiver() as first:
        last.reply = lambda request: (200, {}, b"here")
        first.reply = lambda request: (302, {"Location": last.url})
        assert fetch(first.url, tmp_path / "file").read_bytes() == b"here"
        first.reply = lambda request: (302, {"Location": "http://127.0.0.9/secret"})
        assert "127.0.0.9, which is not a public address" in str(refused(first.url, tmp_path))
        first.reply = lambda request: (302, {"Location": "/"})
        assert f"more than {fetching.REDIRECTS_MAX} times" in str(refused(first.url, tmp_path))
        first.reply = lambda request: (302, {"Location": "file:///etc/passwd"})
        assert "http or https" in str(refused(first.url, tmp_path))


@pytest.mark.parametrize(("status", "again"), [(404, False), (403, False), (204, False), (503, True), (429, True)])
def test_another_status_is_no_file(tmp_path: Path, status: int, again: bool) -> None:
    with receiver() as there:
        there.reply = lambda request: (status, {})
        error = refused(there.url, tmp_path)
    assert (f"answered {status}" in str(error), error.retryable) == (True, again)


def test_more_than_may_be_fetched_is_cut_off(tmp_path: Path) -> None:
    with receiver() as there:
        there.reply = lambda request: (200, {}, b"x" * 100_001)
        assert "more than 100000 bytes" in str(refused(there.url, tmp_path))


def test_what_would_inflate_is_refused(tmp_path: Path) -> None:
    with receiver() as there:
        there.reply = lambda request: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")
        assert "sent it as gzip" in str(refused(there.url, tmp_path))


def test_a_declared_type_that_lies_is_told(tmp_path: Path) -> None:
    with receiver() as there:
        there.reply = lambda request: (200, {"Content-Type": "image/png"}, b"<html><script>alert(1)</script>")
        error = refused(there.url, tmp_path, media_type="image/png")
    assert "said to be image/png, and its bytes are text/html" in str(error)


def test_what_does_not_come_in_time_may_be_tried_again(tmp_path: Path, settings: Settings) -> None:
    settings.A2A_FETCH_TIMEOUT_S = 0.2
    over = threading.Event()

    def slow(request: Any) -> tuple[int, dict[str, str]]:
        over.wait(30)
        return 200, {}

    with receiver() as there:
        there.reply = slow
        error = refused(there.url, tmp_path)
        over.set()
    assert ("within 0.2 s" in str(error), error.retryable) == (True, True)


def test_nobody_there_may_be_tried_again(tmp_path: Path) -> None:
    with receiver() as gone:
        url = gone.url
    assert refused(url, tmp_path).retryable
