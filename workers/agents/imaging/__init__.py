"""The agent ``imaging``: DICOM, PNG and JPEG in; statistics as JSON and a windowed preview as PNG out.

It publishes technical facts from an allow-list and nothing else of a file (``facts.py``); pixels are shown as they are,
so what is burned into them stays visible. Importing this module loads no image library: the web process does so for
the agent's card.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tasks_app.agents import AgentError, Skill, agent
from workers.agents.imaging.errors import failure, in_part

if TYPE_CHECKING:
    from workers.context import Context

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "window_center": {"type": "number", "description": "In output units, for example HU."},
        "window_width": {"type": "number", "exclusiveMinimum": 0},
        "histogram_bins": {"type": "integer", "minimum": 2, "maximum": 1024, "default": 64},
        "preview_px": {"type": "integer", "minimum": 32, "maximum": 2048, "default": 512},
    },
    "dependentRequired": {"window_center": ["window_width"], "window_width": ["window_center"]},
    "additionalProperties": False,
}
IMAGE_MODES = ("application/dicom", "image/png", "image/jpeg", "application/octet-stream")
SKILLS = (
    Skill(
        id="image-statistics",
        name="Image statistics",
        description="Size, modality, intensity statistics and a histogram of each image, over all its frames.",
        tags=("dicom", "png", "jpeg", "radiology", "statistics"),
        examples=("Measure this CT slice.",),
    ),
    Skill(
        id="image-preview",
        name="Image preview",
        description="A windowed 8-bit PNG of each image; of several frames, the middle one.",
        tags=("dicom", "png", "jpeg", "radiology", "preview"),
        examples=("Show me this study with a window of 40/400.",),
    ),
)


@agent(
    "imaging",
    lane="cpu",
    description="Measures medical and ordinary images and renders previews. Publishes no patient identifier.",
    skills=SKILLS,
    input_modes=IMAGE_MODES,
    output_modes=("application/json", "image/png"),
    parameters_schema=PARAMETERS,
    max_attempts=3,
    timeout_s=300.0,
)
def imaging(ctx: Context) -> None:
    """Records one ``image/png`` artifact per raw part and, at the end, one ``application/json`` report of all.

    Text and data parts are ignored. Raises :class:`AgentError`, naming the part by its index; previews recorded before
    stay.
    """
    from workers.agents.imaging.pipeline import Options, examine

    images = list(_raw_parts(ctx))
    options = Options.of(ctx.parameters)
    reports: list[dict[str, Any]] = []
    for position, (index, data) in enumerate(images):
        try:
            finding = examine(data, options, _Progress(ctx, position, len(images)))
        except AgentError as error:
            raise in_part(error, index) from None
        reports.append({"part_index": index, **finding.report})
        name = f"preview-{index}"
        ctx.artifact(finding.png, name=name, media_type="image/png", filename=f"{name}.png")
    ctx.artifact(
        {"image_count": len(reports), "images": reports},
        name="report",
        media_type="application/json",
        filename="report.json",
    )


class _Progress:
    """Reports one image's progress as its share of the task's."""

    def __init__(self, ctx: Context, position: int, image_count: int) -> None:
        self._ctx, self._position, self._image_count = ctx, position, image_count

    def __call__(self, fraction: float, step: str) -> None:
        message = f"{step} image {self._position + 1} of {self._image_count}"
        self._ctx.progress((self._position + fraction) / self._image_count, message)


def _raw_parts(ctx: Context) -> Iterator[tuple[int, bytes]]:
    """(index in the message, bytes) of each raw part. Raises ``no_input`` if there is none, and refuses URLs."""
    kinds = [part.WhichOneof("content") for part in ctx.message.parts]
    if "url" in kinds:
        raise in_part(failure("unsupported_part"), kinds.index("url"))
    if "raw" not in kinds:
        raise failure("no_input")
    for index, part in enumerate(ctx.message.parts):
        if kinds[index] == "raw":
            yield index, part.raw
