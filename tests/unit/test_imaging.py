"""The agent ``imaging`` on every file of the manifest: previews that show something, exact numbers, no identifiers."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pydicom
import pytest
from a2a.types import Message, Part
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut

from examples.imaging.inputs import Study, studies
from tasks_app.agents import AgentError, get
from workers.agents.imaging import imaging

ALL = studies(every_file=True)
DECODING = [study for study in ALL if study.decodes]
REFUSED = [study for study in ALL if not study.decodes]
by_name = pytest.mark.parametrize("study", DECODING, ids=lambda study: study.name)

#: Files whose own data are flat or lie at the ends of the range. No windowing could or should change that.
BARS = "colour bars of pure red, green, blue, black and white"
PATTERN = "test pattern of three values"
OWN_EXTREMES = {
    **{f"charset_files/{n}.dcm": PATTERN for n in ("chrArab", "chrFren", "chrFrenMulti", "chrGerm", "chrGreek")},
    **{
        f"charset_files/{n}.dcm": PATTERN for n in ("chrH31", "chrH32", "chrHbrw", "chrI2", "chrRuss", "chrX1", "chrX2")
    },
    **{s.name: BARS for s in DECODING if s.name.startswith(("test_files/SC_rgb_", "test_files/SC_ybr_"))},
    "test_files/ExplVR_BigEnd.dcm": "saturated colour Doppler: 92% of the samples are 0 or 255",
    "test_files/JPEGLSNearLossless_08.dcm": "a ramp that doubles from 0 to 255",
    "test_files/JPEGLSNearLossless_16.dcm": "a ramp that doubles from 0 to 65535",
    "test_files/liver_1frame.dcm": "a segmentation: one bit per pixel",
    "test_files/liver_expb_1frame.dcm": "a segmentation: one bit per pixel",
}
EMPTY_SLIDE = "an empty tile of a scanned slide: the glass is nearly white throughout"
FLAT = {
    f"test_files/{name}.dcm": EMPTY_SLIDE
    for name in (
        "SC_jpeg_no_color_transform",
        "SC_jpeg_no_color_transform_2",
        "SC_rgb_jpeg",
        "SC_rgb_jpeg_app14_dcmd",
        "SC_rgb_jpeg_dcmd",
    )
}


@dataclass
class FakeContext:
    """Records what a handler reports."""

    message: Message
    parameters: dict[str, Any] = field(default_factory=dict)
    fractions: list[float] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)

    def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def artifact(self, content: Any, *, name: str, media_type: str | None = None, **options: Any) -> None:
        self.artifacts.append({"content": content, "name": name, "media_type": media_type, **options})

    @property
    def report(self) -> dict[str, Any]:
        return next(a["content"] for a in self.artifacts if a["media_type"] == "application/json")

    @property
    def previews(self) -> list[bytes]:
        return [a["content"] for a in self.artifacts if a["media_type"] == "image/png"]


def run(*contents: bytes, **parameters: Any) -> FakeContext:
    parts = [Part(raw=content, media_type="application/octet-stream") for content in contents]
    context = FakeContext(Message(parts=parts), parameters)
    imaging(context)
    return context


@cache
def outcome(study: Study) -> FakeContext:
    return run(study.path.read_bytes())


def shown(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


def data(name: str) -> bytes:
    return next(study for study in ALL if study.name == f"test_files/{name}").path.read_bytes()


def code_of(content: bytes) -> str:
    with pytest.raises(AgentError) as caught:
        run(content)
    assert str(caught.value).startswith("parts[0]: ")
    return caught.value.code


@by_name
def test_a_preview_fits_and_keeps_the_aspect(study: Study) -> None:
    context = outcome(study)
    facts = context.report["images"][0]
    height, width = shown(context.previews[0]).shape[:2]
    assert (height, width) == (facts["preview"]["height"], facts["preview"]["width"])
    assert max(height, width) <= 512
    spacing = facts["technical"].get("pixel_spacing_mm", [1.0, 1.0])
    aspect = facts["rows"] * spacing[0] / (facts["columns"] * spacing[1])
    assert height / width == pytest.approx(aspect, rel=0.04)


@by_name
def test_a_preview_has_contrast(study: Study) -> None:
    spread = shown(outcome(study).previews[0]).std()
    assert spread > (0.5 if study.name in FLAT else 20.0)


@by_name
def test_a_preview_is_not_clipped_but_for_its_background(study: Study) -> None:
    pixels = shown(outcome(study).previews[0])
    if study.name not in OWN_EXTREMES:
        assert np.mean(pixels == 255) <= 0.08
        assert np.mean(pixels == 0) <= 0.55
        if outcome(study).report["images"][0]["preview"]["window_source"] == "file":
            return  # the file asks for its background to be black
    black, white = own_extremes(study)
    if study.name.endswith("JPEGLSNearLossless_16.dcm"):
        black = 0.4  # its lower steps are less than one of 256 greys
    assert np.mean(pixels == 0) <= black + 0.05
    assert np.mean(pixels == 255) <= white + 0.07


def own_extremes(study: Study) -> tuple[float, float]:
    """Which shares of the shown frame are background (darkest value, air, padding) and brightest in the file itself."""
    ds = pydicom.dcmread(io.BytesIO(study.path.read_bytes().lstrip()), force=True)
    if study.name.endswith(("MR_truncated.dcm", "badVR.dcm", "JPEG-lossy.dcm", "embedded-sequence-delimiter.dcm")):
        return 0.05, 0.05
    ds.file_meta.TransferSyntaxUID = ds.file_meta.get("TransferSyntaxUID", pydicom.uid.ExplicitVRLittleEndian)
    frames = ds.pixel_array
    if ds.get("PhotometricInterpretation") == "PALETTE COLOR":
        return 0.5, 0.05
    frame = frames[frames.shape[0] // 2] if int(ds.get("NumberOfFrames") or 1) > 1 else frames
    values = np.asarray(apply_modality_lut(frame, ds), dtype=float)
    floor = -500.0 if ds.get("Modality") == "CT" else values.min()
    floor, top = (0, 2 ** int(ds.BitsStored) - 1) if values.ndim == 3 else (floor, values.max())
    return float(np.mean(values <= floor)), float(np.mean(values >= top))


@pytest.mark.parametrize("study", REFUSED, ids=lambda study: study.name)
def test_a_file_without_pixels_is_refused_for_the_reason_in_the_manifest(study: Study) -> None:
    assert code_of(study.path.read_bytes()) == study.reason


def test_the_manifest_lists_the_104_files_and_every_one_with_pixels_decodes() -> None:
    named = studies()
    assert len(named) == 104
    assert {study.reason for study in named} == {None, "no_pixels"}
    assert sum(study.decodes is True for study in named) == 75


NUMBERS = ("CT_small", "MR_small", "J2K_pixelrep_mismatch", "693_J2KI", "rtdose", "rtdose_expb", "MR_small_bigendian")


@pytest.mark.parametrize("name", NUMBERS)
def test_statistics_equal_a_direct_computation_over_all_frames(name: str) -> None:
    ds = pydicom.dcmread(io.BytesIO(data(f"{name}.dcm")))
    stored = ds.pixel_array
    measured = stored[stored != ds.PixelPaddingValue] if "PixelPaddingValue" in ds else stored.reshape(-1)
    values = apply_modality_lut(measured, ds).astype(np.float64)
    facts = run(data(f"{name}.dcm"), histogram_bins=32).report["images"][0]
    intensity = facts["intensity"]
    assert intensity["count"] == values.size
    for key in ("min", "max", "mean", "std"):
        assert intensity[key] == pytest.approx(float(getattr(values, key)()), rel=1e-9)
    for percent, value in intensity["percentiles"].items():
        assert value == pytest.approx(float(np.percentile(values, int(percent))), rel=1e-9, abs=1e-9)
    counts, edges = np.histogram(values, bins=32)
    assert facts["histogram"]["counts"] == counts.tolist()
    assert facts["histogram"]["edges"] == pytest.approx(edges.tolist())


def test_colour_is_measured_as_luminance_and_per_channel_over_all_frames() -> None:
    content = data("examples_ybr_color.dcm")
    frames = pydicom.dcmread(io.BytesIO(content)).pixel_array.astype(np.float64)
    facts = run(content).report["images"][0]
    assert facts["frames"] == facts["frames_measured"] == len(frames) == 30
    assert facts["intensity"]["mean"] == pytest.approx((frames @ [0.299, 0.587, 0.114]).mean())
    assert facts["channels"]["green"]["std"] == pytest.approx(frames[..., 1].std())


IDENTIFYING_VRS = frozenset({"PN", "UI", "DA", "DT", "LT", "ST", "UT"})
_IDENTIFYING = """PatientName PatientID OtherPatientIDs PatientBirthDate PatientAddress AccessionNumber StudyID
InstitutionName InstitutionAddress StationName StudyDescription SeriesDescription ProtocolName DeviceSerialNumber
ReferringPhysicianName PatientComments ImageComments MedicalRecordLocator"""
IDENTIFYING = frozenset(_IDENTIFYING.split())
REGISTERED = "1.2.840.10008."


def identifiers(study: Study) -> set[str]:
    """Every value of the file that could tell whose image it is, in the forms it could be copied in."""
    ds = pydicom.dcmread(study.path, force=True)
    found: set[str] = set()
    for element in ds.iterall():
        if element.VR in IDENTIFYING_VRS or element.keyword in IDENTIFYING:
            found.add(str(element.value))
            found |= set(str(element.value).replace("^", " ").split() if element.VR == "PN" else ())
    telling = {value.strip() for value in found if len(set(value.strip())) >= 4}
    return {value for value in telling if not value.startswith(REGISTERED)}


@pytest.mark.filterwarnings("ignore")
def test_no_identifier_of_any_file_reaches_artifacts_errors_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    checked, logged = 0, []
    for study in ALL:
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            published = everything_published(study)
        logged += caplog.records
        for value in identifiers(study):
            checked += 1
            assert value.encode() not in published, study.name
    assert checked > 500
    assert logged == []


def everything_published(study: Study) -> bytes:
    context = FakeContext(Message(parts=[Part(raw=study.path.read_bytes(), filename=study.name)]))
    try:
        imaging(context)
    except AgentError as error:
        return "".join(traceback.format_exception(error)).encode()
    for item in context.artifacts:
        if isinstance(item["content"], dict):
            item["content"] = json.dumps(item["content"], allow_nan=False).encode()
    return b"\n".join(
        part if isinstance(part, bytes) else str(part).encode() for item in context.artifacts for part in item.values()
    )


def test_only_allow_listed_facts_are_published() -> None:
    names = """modality rows columns bits_stored photometric_interpretation number_of_frames pixel_spacing_mm
    slice_thickness_mm body_part_examined rescale_slope rescale_intercept window_center window_width
    transfer_syntax"""
    allowed = set(names.split())
    for study in DECODING:
        assert set(outcome(study).report["images"][0]["technical"]) <= allowed


def test_importing_the_agent_loads_no_image_library() -> None:
    program = (
        "import sys, workers.agents.imaging; "
        "sys.exit(', '.join({'numpy', 'pydicom', 'PIL', 'openjpeg'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_progress_rises_from_0_to_1_through_several_steps() -> None:
    context = run(data("CT_small.dcm"), data("examples_ybr_color.dcm"), data("MR_small.dcm"))
    assert context.fractions == sorted(context.fractions)
    assert context.fractions[0] == 0.0
    assert context.fractions[-1] == 1.0
    assert len(set(context.fractions)) > 12


def test_several_images_give_one_report_and_a_preview_each() -> None:
    parts = [Part(raw=data("CT_small.dcm")), Part(text="look"), Part(raw=data("MR_small.dcm"), media_type="image/png")]
    context = FakeContext(Message(parts=parts))
    imaging(context)
    assert context.report["image_count"] == 2
    assert [image["part_index"] for image in context.report["images"]] == [0, 2]
    assert [image["modality"] for image in context.report["images"]] == ["CT", "MR"]
    assert [a["name"] for a in context.artifacts] == ["preview-0", "preview-2", "report"]


def test_the_parameters_are_checked_and_obeyed() -> None:
    spec = get("imaging")
    spec.check_parameters({"window_center": 40, "window_width": 400, "preview_px": 64, "histogram_bins": 2})
    for wrong in ({"window_center": 40}, {"histogram_bins": 1}, {"preview_px": 4096}, {"other": 1}):
        with pytest.raises(ValueError, match=r".+"):
            spec.check_parameters(wrong)
    context = run(data("CT_small.dcm"), window_center=40, window_width=400, preview_px=64, histogram_bins=2)
    preview = context.report["images"][0]["preview"]
    assert preview["window_source"] == "parameters"
    assert (preview["width"], preview["height"]) == (64, 64)
    assert len(context.report["images"][0]["histogram"]["counts"]) == 2
