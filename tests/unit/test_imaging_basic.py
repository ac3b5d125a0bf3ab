"""The agents ``echo``, ``sleep`` and ``sleep-cpu``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from a2a.types import Message, Part

from examples.imaging.inputs import folder
from tasks_app.agents import BadParameters, get
from tests.unit.test_imaging import FakeContext, data
from workers.agents.basic import echo, sleep, sleep_cpu


def test_echo_answers_with_the_text_parts() -> None:
    context = FakeContext(Message(parts=[Part(text="one"), Part(raw=b"x"), Part(text="two")]))
    asyncio.run(echo(context))
    assert [item["content"] for item in context.artifacts] == ["one\ntwo"]


@pytest.mark.parametrize("name", ["sleep", "sleep-cpu"])
def test_sleep_reports_its_steps_and_ends_at_exactly_1(name: str) -> None:
    context = FakeContext(Message(), {"seconds": 0, "steps": 7})
    if name == "sleep":
        asyncio.run(sleep(context))
    else:
        sleep_cpu(context)
    assert context.fractions == [step / 7 for step in range(1, 8)]
    assert context.artifacts[0]["content"] == "slept 0 s"


@pytest.mark.parametrize("name", ["sleep", "sleep-cpu"])
def test_sleep_checks_its_parameters(name: str) -> None:
    get(name).check_parameters({"seconds": 3600, "steps": 100})
    for wrong in ({"seconds": -1}, {"seconds": 3601}, {"steps": 0}, {"steps": 101}, {"minutes": 1}):
        with pytest.raises(BadParameters):
            get(name).check_parameters(wrong)


def test_a_folder_gives_its_images_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "scan").write_bytes(data("CT_small.dcm"))
    (tmp_path / "bare.bin").write_bytes(data("no_meta.dcm"))
    (tmp_path / "notes.dcm").write_text("no image")
    found = folder(tmp_path)
    assert [(study.name, study.media_type) for study in found] == [
        ("bare.bin", "application/dicom"),
        ("deep/scan", "application/dicom"),
    ]
