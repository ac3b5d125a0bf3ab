"""A rate is so many in a window, and costs nothing where nobody has one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tasks_app.throttle import window


@pytest.mark.parametrize(
    ("rate_per_s", "amount", "seconds"),
    [
        (1.0, 60, 60),
        (10.0, 600, 60),
        (0.5, 30, 60),
        (0.03, 2, 67),
        (1 / 60, 1, 60),
        (0.001, 1, 1000),
        (5000, 300000, 60),
    ],
)
def test_a_rate_is_averaged_over_a_minute_or_until_the_first_fits(rate_per_s: float, amount: int, seconds: int) -> None:
    assert window(rate_per_s) == (amount, seconds)


@pytest.mark.parametrize("rate_per_s", [0.0001, 0.017, 0.3, 0.99, 1.01, 3.7, 123.4])
def test_a_window_lets_no_more_through_than_the_rate_and_hardly_less(rate_per_s: float) -> None:
    amount, seconds = window(rate_per_s)
    assert 0.97 * rate_per_s <= amount / seconds <= rate_per_s * (1 + 1e-9)


def test_a_web_process_in_which_no_client_has_a_rate_does_not_even_import_the_library() -> None:
    code = """
import asyncio, sys
from a2a_project.asgi import application
from tasks_app import throttle
from tasks_app.authentication import Caller
throttle.check(Caller(1, "free"))
asyncio.run(throttle.AsyncThrottle().check(Caller(1, "free", None, 5)))
assert "tasks_app.a2a.jsonrpc" in sys.modules
assert not [name for name in sys.modules if name.partition(".")[0] == "limits"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
