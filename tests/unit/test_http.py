"""What the HTTP doors share (tasks_app/a2a/http.py)."""

from __future__ import annotations

import pytest

from tasks_app.a2a import http


@pytest.mark.parametrize(
    ("values", "tag", "weakly", "strongly"),
    [
        (['"a"'], '"a"', True, True),
        (['W/"a"'], '"a"', True, False),
        (['"a"'], 'W/"a"', True, False),
        (['W/"a"'], 'W/"a"', True, False),
        (['"b"'], '"a"', False, False),
        (['"b", W/"c"', '"a"'], '"a"', True, True),
        (['"b",*'], 'W/"a"', True, True),
        ([""], '"a"', False, False),
    ],
)
def test_tags_compare_as_rfc_9110_section_8_8_3_2_says(
    values: list[str], tag: str, weakly: bool, strongly: bool
) -> None:
    assert http.names(values, tag) is weakly
    assert http.names(values, tag, strongly=True) is strongly
