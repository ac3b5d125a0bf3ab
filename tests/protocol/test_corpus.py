"""What fuzzing found once, asked again: one file for each case, named after what was wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.fuzzing.doors import Asker
from tests.protocol.fuzzing.properties import holds
from tests.protocol.fuzzing.requests import from_json

pytestmark = pytest.mark.django_db
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))


def test_there_is_a_corpus() -> None:
    assert CORPUS


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once_holds(asker: Asker, path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    assert case["why"]
    with asker.emptied():
        ids = asker.ids()
        for request in from_json(case, ids):
            found = holds(asker, request, ids)
            assert found.accepted == case["accepted"], (request, found)
            assert found.fields <= set(case.get("fields", [])), (request, found)
