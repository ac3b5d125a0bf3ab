"""The agent ``imaging`` on what is not as it should be: readable errors with codes, bounds, and sound repairs."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pydicom
import pytest
from a2a.types import Message, Part
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from tasks_app.agents import AgentError
from tests.unit.test_imaging import FakeContext, code_of, data, run, shown
from workers.agents.imaging import codestream, dicom, imaging

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


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(columns: int, rows: int, colour: int = 0, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of 8 bits a sample that declares this size and has ten black pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, colour, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    pixels = chunk(b"IDAT", zlib.compress(bytes(11)))
    return b"\x89PNG\r\n\x1a\n" + header + before + palette + pixels + after + chunk(b"IEND", b"")


def progressive(size: int, *, scans: int) -> bytes:
    """A progressive JPEG with its last scan made anew again and again."""
    whole = encoded(np.zeros((size, size), dtype=np.uint8), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * scans + whole[-2:]


def encapsulated(stream: bytes | list[bytes], syntax: UID, *, size: int = 100, **tags: Any) -> bytes:
    """A DICOM object of 8-bit grey, with a codestream for each of its frames."""
    ds = pydicom.dcmread(io.BytesIO(data("CT_small.dcm")))
    ds.file_meta.TransferSyntaxUID = syntax
    described = {"Rows": size, "Columns": size, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    for tag, value in {**described, "PixelRepresentation": 0, **tags}.items():
        setattr(ds, tag, value)
    ds.PixelData = encapsulate([stream] if isinstance(stream, bytes) else stream, has_bot=False)
    ds["PixelData"].VR = "OB"
    return saved(ds)


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


def element(element_number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, element_number, vr, len(value)) + value


DEFLATED = element(0x10, b"UI", DeflatedExplicitVRLittleEndian.encode())
LONG_UID = element(0x03, b"UI", b"1." * 4000)
PREAMBLE = bytes(128) + b"DICM"
COMMAND_ELEMENT = struct.pack("<HHI", 0, 0x0900, 0)


@pytest.fixture(scope="module")
def inflating() -> bytes:
    """600 KB of deflated zeros that become 600 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()


@pytest.mark.parametrize(
    "head",
    [
        PREAMBLE + element(0, b"UL", struct.pack("<I", len(DEFLATED))) + DEFLATED,
        PREAMBLE + DEFLATED,
        PREAMBLE + LONG_UID + DEFLATED,
        PREAMBLE + DEFLATED + COMMAND_ELEMENT,
        DEFLATED,
        b"\n" + DEFLATED,
    ],
    ids=["ordinary", "no group length", "far into the file", "behind a command", "no preamble", "white space in front"],
)
def test_a_deflated_dataset_that_would_fill_the_memory_is_refused_whatever_its_header(
    head: bytes, inflating: bytes
) -> None:
    assert code_of(head + inflating) == "too_large"


def test_a_deflated_dataset_with_something_after_its_end_is_read() -> None:
    assert run(data("image_dfl.dcm") + bytes(1 << 20)).report["images"][0]["rows"] == 512


@pytest.mark.parametrize("colour", [0, 2, 3, 6], ids=["grey", "rgb", "palette", "rgba"])
def test_a_small_png_that_declares_a_huge_picture_is_refused_before_decoding(colour: int) -> None:
    assert code_of(png(50_000, 50_000, colour)) == "too_large"


def test_a_palette_counts_as_the_colours_it_becomes() -> None:
    assert code_of(png(9_400, 9_400, 0)) == "undecodable"  # in bounds: only the pixels are missing
    assert code_of(png(9_400, 9_400, 3)) == "too_large"
    assert code_of(changed(Rows=8_000, Columns=8_000)) == "truncated"
    assert code_of(changed(Rows=8_000, Columns=8_000, PhotometricInterpretation="PALETTE COLOR")) == "too_large"


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(("kind", "start"), [(b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")])
def test_a_compressed_note_in_a_png_is_not_inflated_without_bound(
    kind: bytes, start: bytes, place: str, inflating: bytes
) -> None:
    def having(deflated: bytes) -> bytes:
        note = chunk(kind, start + deflated)
        return png(10, 1, before=note) if place == "before" else png(10, 1, after=note)

    assert run(having(zlib.compress(b"a note"))).report["images"][0]["columns"] == 10
    assert code_of(having(b"\x78\xda" + inflating + bytes(4))) == "undecodable"


def test_a_webp_is_no_image_for_this_agent_however_large() -> None:
    assert code_of(encoded(gradient(8, 8), "WEBP")) == "not_an_image"


def test_a_jpeg_that_asks_for_endless_passes_over_its_pixels_is_refused() -> None:
    assert run(progressive(200, scans=100)).report["images"][0]["columns"] == 200
    assert code_of(progressive(4_000, scans=1_000)) == "too_large"
    for syntax in (JPEGBaseline8Bit, JPEGLosslessSV1):
        assert code_of(encapsulated(progressive(100, scans=100), syntax)) == "too_large"


SOUND = encoded(gradient(100, 100), "JPEG")
FRAME = SOUND.index(b"\xff\xc0")
BIG = struct.pack(">HH", 65_500, 65_500)
SIZES = slice(FRAME + 5, FRAME + 9)
SOUND_J2K = encoded(gradient(100, 100), "JPEG2000", no_jp2=True)


def with_sizes(rows: int, columns: int) -> bytes:
    return SOUND[: SIZES.start] + struct.pack(">HH", rows, columns) + SOUND[SIZES.stop :]


@pytest.mark.parametrize(
    "stream",
    [
        with_sizes(65_500, 65_500),
        with_sizes(0, 65_500)[:-2] + b"\xff\xdc\0\4" + struct.pack(">H", 65_500) + b"\xff\xd9",
        SOUND[:2] + b"junk" + with_sizes(65_500, 65_500)[2:],
        SOUND[:FRAME] + b"\xff\xde\0\x0b\x08" + BIG + b"\1\1\x11\0" + SOUND[FRAME:],
        SOUND[:2] + b"\xff\xe0\0\x40" + SOUND_J2K[:62] + with_sizes(65_500, 65_500)[2:],
        SOUND[:FRAME] + struct.pack(">HHBHHB", 0xFFC0, 773, 8, 999, 999, 255) + bytes(765) + SOUND[FRAME + 13 :],
    ],
    ids=["plain", "rows said at the end", "behind junk", "hierarchical", "behind a false JPEG 2000", "255 components"],
)
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1], ids=["baseline", "lossless"])
def test_a_jpeg_cannot_hide_from_the_bound_how_large_it_is(stream: bytes, syntax: UID) -> None:
    assert code_of(encapsulated(stream, syntax)) == "too_large"


def test_the_components_of_a_jpeg_2000_count() -> None:
    many = 16_384
    head = SOUND_J2K[:4] + struct.pack(">H", 38 + 3 * many) + SOUND_J2K[6:40] + struct.pack(">H", many)
    assert code_of(encapsulated(head + SOUND_J2K[42:45] * many + SOUND_J2K[45:], JPEG2000Lossless)) == "too_large"


RLE_FRAME = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x9d\0"


def test_frames_that_overlap_cannot_multiply_a_file() -> None:
    content = encapsulated([RLE_FRAME] * 50, RLELossless, size=10, NumberOfFrames=50)
    assert run(content).report["images"][0]["frames_measured"] == 50
    ds = pydicom.dcmread(io.BytesIO(content))
    ds.ExtendedOffsetTable = struct.pack("<50Q", *[0] * 50)
    ds.ExtendedOffsetTableLengths = struct.pack("<50Q", *[len(ds.PixelData) - 8] * 50)
    assert code_of(saved(ds)) == "bad_header"


def test_of_very_many_frames_fewer_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "_MOST_STEPS", 1_000)
    report = run(encapsulated([RLE_FRAME] * 100, RLELossless, size=10, NumberOfFrames=100)).report["images"][0]
    assert report["frames"] == 100
    assert 1 < report["frames_measured"] <= 10


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
