"""The documentation speaks of tests that are there, and the table of conformance is whole."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFORMANCE = ROOT / "docs" / "conformance.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^\s*(?:async )?def (test_\w+)\(", re.MULTILINE)
WORDS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"}


def rows() -> list[list[str]]:
    """The cells of every statement: section, word, statement, ours, tests."""
    lines = [line for line in CONFORMANCE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "§"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    defined = {name for path in (ROOT / "tests").rglob("test_*.py") for name in DEFINED.findall(path.read_text())}
    assert set(NAMED.findall(page.read_text())) - defined == set()


def test_every_statement_says_what_we_do_and_what_holds_it() -> None:
    assert len(rows()) > 150
    for row in rows():
        assert len(row) == 5, row
        section, word, statement, ours, tests = row
        assert section, row
        assert word in WORDS, row
        assert statement, row
        kind, _, why = ours.partition(":")
        assert kind in ("yes", "choice", "not"), row
        assert NAMED.search(tests) or why, row  # what no test can hold says why, or where it is written
        assert kind == "yes" or why, row


def test_the_table_counts_itself() -> None:
    kinds = Counter(row[3].partition(":")[0] for row in rows())
    counts = f"Of {len(rows())} statements {kinds['yes']} are yes, {kinds['choice']} choice, {kinds['not']} not."
    assert counts in CONFORMANCE.read_text().replace("\n", " ")
