"""The agent ``imaging`` on what is not as it should be: readable errors with codes, bounds, and sound repairs."""

from __future__ import annotations

import io
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pydicom
import pytest
from a2a.types import Message, Part
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from tasks_app.agents import AgentError
from tests.unit.test_imaging import FakeContext, code_of, data, run, shown
from workers.agents.imaging import codestream, imaging

NAME = "Mustermann^Erika"


def saved(ds: Any) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def changed(name: str = "CT_small.dcm", **tags: Any) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(data(name)))
    for tag, value in tags.items():
        setattr(ds, tag, value)
    return saved(ds)


def encoded(pixels: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def gradient(rows: int, columns: int) -> Any:
    return np.linspace(0, 255, rows * columns).reshape(rows, columns).astype(np.uint8)


def refused(*parts: Part) -> AgentError:
    with pytest.raises(AgentError) as caught:
        imaging(FakeContext(Message(parts=parts)))
    return caught.value


def test_a_message_without_an_image_is_refused() -> None:
    assert refused(Part(text="hello")).code == "no_input"
    assert refused().code == "no_input"


def test_a_url_is_refused_and_not_fetched() -> None:
    error = refused(Part(raw=data("CT_small.dcm")), Part(url="http://example.org/x.dcm"))
    assert error.code == "unsupported_part"
    assert str(error).startswith("parts[1]: ")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"just some text, and no image", "not_an_image"),
        (b"\x08\x00" + b"text after two bytes that look like a group", "not_an_image"),
        (b"\0" * 128 + b"DICM", "no_pixels"),
        (b"\x89PNG\r\n\x1a\n", "undecodable"),
        (b"\xff\xd8\xff\xe0broken", "undecodable"),
    ],
)
def test_what_is_no_image_gets_a_code(content: bytes, code: str) -> None:
    assert code_of(content) == code


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_picture_is_refused(kind: str) -> None:
    rng = np.random.default_rng(1)
    whole = encoded(rng.integers(0, 255, (64, 64), dtype=np.uint8), kind)
    assert code_of(whole[: len(whole) // 2]) == "undecodable"


def test_a_truncated_dicom_object_is_refused() -> None:
    assert code_of(data("CT_small.dcm")[:20_000]) in {"truncated", "undecodable"}
    assert code_of(data("CT_small.dcm")[:1_000]) in {"no_pixels", "undecodable"}
    assert code_of(data("MR_small_RLE.dcm")[:4_000]) in {"no_pixels", "undecodable"}
    assert code_of(data("693_J2KI.dcm")[:1_500]) in {"no_pixels", "undecodable"}


@pytest.mark.parametrize("cut", range(0, 9_800, 350))
def test_a_cut_anywhere_is_an_agent_error_or_an_image(cut: int) -> None:
    with suppress(AgentError):
        run(data("MR_small.dcm")[:cut])


def test_a_damaged_byte_anywhere_is_an_agent_error_or_an_image() -> None:
    rng = np.random.default_rng(7)
    for name in ("MR_small_jp2klossless.dcm", "JPGExtended.dcm", "MR_small_RLE.dcm", "rtdose.dcm"):
        whole = bytearray(data(name))
        for place in rng.integers(132, len(whole), 25):
            broken = whole.copy()
            broken[place] ^= 0xFF
            with suppress(AgentError):
                run(bytes(broken))


def test_huge_declared_dimensions_are_refused_before_decoding() -> None:
    assert code_of(changed(Rows=60_000, Columns=60_000)) == "too_large"
    assert code_of(encoded(np.zeros((11_000, 11_000), dtype=np.uint8), "PNG")) == "too_large"


def test_a_codestream_that_declares_more_than_its_header_is_refused_before_decoding() -> None:
    ds = pydicom.dcmread(io.BytesIO(data("MR_small_jp2klossless.dcm")))
    stream = bytearray(next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)))
    start = stream.find(b"\xff\x4f\xff\x51")
    stream[start + 8 : start + 16] = (60_000).to_bytes(4, "big") * 2
    ds.PixelData = encapsulate([bytes(stream)])
    assert ds.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert code_of(saved(ds)) == "too_large"


def test_a_deflated_dataset_that_would_fill_the_memory_is_refused() -> None:
    ds = pydicom.dcmread(io.BytesIO(data("image_dfl.dcm")))
    assert ds.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    whole = data("image_dfl.dcm")
    head = whole[: 144 + int.from_bytes(whole[140:144], "little")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
    assert code_of(head + bomb) == "too_large"


def test_an_error_names_the_part_and_keeps_earlier_previews() -> None:
    context = FakeContext(Message(parts=[Part(raw=data("CT_small.dcm")), Part(text="and"), Part(raw=b"no image")]))
    with pytest.raises(AgentError, match=r"^parts\[2\]: ") as caught:
        imaging(context)
    assert caught.value.code == "not_an_image"
    assert [item["name"] for item in context.artifacts] == ["preview-0"]


def test_codes_that_carry_a_name_or_free_text_are_not_published() -> None:
    content = changed(
        PatientName=NAME,
        Modality="ERIKA",
        BodyPartExamined="ERIKA",
        SeriesDescription=NAME,
        PhotometricInterpretation="MONOCHROME2",
    )
    facts = run(content).report["images"][0]
    assert facts["modality"] is None
    assert "ERIKA" not in str(facts).upper()
    assert (
        run(changed(BodyPartExamined="SPINE 0815")).report["images"][0]["technical"].get("body_part_examined") is None
    )
    assert run(changed(BodyPartExamined="CHEST")).report["images"][0]["technical"]["body_part_examined"] == "CHEST"


def test_a_private_transfer_syntax_is_refused_without_its_uid() -> None:
    ds = pydicom.dcmread(io.BytesIO(data("CT_small.dcm")))
    ds.file_meta.TransferSyntaxUID = UID("1.2.3.4.5")
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, implicit_vr=False, little_endian=True, enforce_file_format=False)
    assert code_of(buffer.getvalue()) == "unsupported"


def test_monochrome1_is_shown_inverted() -> None:
    plain = shown(run(data("CT_small.dcm")).previews[0]).astype(int)
    inverted = shown(run(changed(PhotometricInterpretation="MONOCHROME1")).previews[0]).astype(int)
    assert np.array_equal(plain + inverted, np.full_like(plain, 255))


def test_oblong_pixels_are_shown_square() -> None:
    preview = run(changed(PixelSpacing=[2.0, 1.0])).report["images"][0]["preview"]
    assert (preview["width"], preview["height"]) == (128, 256)


def test_a_modality_lut_and_a_voi_lut_are_applied() -> None:
    rising = pydicom.Dataset()
    rising.LUTDescriptor, rising.LUTData = [256, 0, 8], np.arange(256, dtype="<u2").tobytes()
    rising.ModalityLUTType = "US"
    ds = pydicom.dcmread(io.BytesIO(data("image_dfl.dcm")))
    ds.VOILUTSequence = [rising]
    facts = run(saved(ds)).report["images"][0]
    assert facts["preview"]["window_source"] == "voi_lut"
    falling = pydicom.Dataset()
    falling.LUTDescriptor, falling.LUTData = [256, 0, 16], np.arange(512, 256, -1, dtype="<u2").tobytes()
    falling.ModalityLUTType = "US"
    ds.ModalityLUTSequence = [falling]
    assert run(saved(ds)).report["images"][0]["intensity"]["max"] == 512.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pictures_are_measured_in_their_own_depth(dtype: Any) -> None:
    pixels = (gradient(40, 60).astype(dtype)) * (1 if dtype == np.uint8 else 200)
    facts = run(encoded(pixels, "PNG")).report["images"][0]
    assert facts["intensity"]["max"] == pixels.max()
    assert facts["intensity"]["mean"] == pytest.approx(pixels.mean())
    assert (facts["rows"], facts["columns"], facts["media_type"]) == (40, 60, "image/png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr"])
def test_every_mode_of_a_picture_gives_a_preview(mode: str) -> None:
    picture = Image.fromarray(gradient(32, 48))
    picture = picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    assert run(buffer.getvalue()).report["images"][0]["columns"] == 48


def test_a_large_picture_becomes_a_small_preview_and_nothing_of_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = NAME
    content = encoded(gradient(1000, 2000), "JPEG", exif=exif)
    assert NAME.encode() in content
    context = run(content)
    assert shown(context.previews[0]).shape == (256, 512)
    assert NAME.encode() not in context.previews[0] + str(context.report).encode()


def test_sound_repairs_are_made_and_said() -> None:
    notes = {
        "MR_truncated.dcm": "missing_pixels_filled",
        "badVR.dcm": "frame_count_from_length",
        "JPEG-lossy.dcm": "codestream_scan_mended",
        "JPEG2000-embedded-sequence-delimiter.dcm": "codestream_size_mended",
        "no_meta.dcm": "transfer_syntax_guessed",
    }
    for name, note in notes.items():
        assert run(data(name)).report["images"][0]["notes"] == [note]
    assert run(data("MR_truncated.dcm")).report["images"][0]["intensity"]["count"] == 64 * 64 - 31
    assert (
        shown(run(data("JPEG-lossy.dcm")).previews[0]).tolist()
        == shown(run(data("JPGExtended.dcm")).previews[0]).tolist()
    )


def test_a_sound_codestream_is_left_alone() -> None:
    stream = encoded(gradient(8, 8), "JPEG")
    assert codestream.mended(stream, rows=8, columns=8) == (stream, None)
    assert codestream.declared_size(stream) == codestream.Size(rows=8, columns=8)
    assert codestream.declared_size(b"neither") is None
