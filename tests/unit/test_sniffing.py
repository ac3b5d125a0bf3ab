"""What the first bytes show, which declared types they contradict, and how large a picture says it is."""

from __future__ import annotations

import codecs
import gzip
import io
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from artifacts_app.images import pixels
from artifacts_app.sniffing import START_BYTES, contradiction, sniffed

OOXML = "application/vnd.openxmlformats-officedocument."
DOCX, XLSX = f"{OOXML}wordprocessingml.document", f"{OOXML}spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"


def picture(kind: str, size: tuple[int, int] = (300, 200), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 40)).save(buffer, format=kind, **options)
    return buffer.getvalue()


def archive(*names: str, first: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        if first:
            file.writestr(zipfile.ZipInfo("mimetype"), first)
        for name in names:
            file.writestr(name, "<w/>" * 50)
    return buffer.getvalue()


def dicom(name: str) -> bytes:
    return Path(str(get_testdata_file(name))).read_bytes()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html>\n<html><body><script>alert(1)</script></body></html>"
BINARY = {
    "image/png": picture("PNG"),
    "image/jpeg": picture("JPEG"),
    "image/gif": picture("GIF"),
    "image/webp": picture("WEBP"),
    "image/avif": picture("AVIF"),
    "image/tiff": picture("TIFF"),
    "image/bmp": picture("BMP"),
    "application/pdf": picture("PDF"),
    "application/zip": archive("a.txt"),
    DOCX: archive("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
    XLSX: archive("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"),
    ODT: archive("content.xml", first=ODT),
    "application/epub+zip": archive("META-INF/container.xml", first="application/epub+zip"),
    "application/gzip": gzip.compress(b"hello" * 20),
    "application/dicom": dicom("CT_small.dcm"),
    "video/mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0\0\0\x08free" + bytes(100),
    "application/x-executable": b"\x7fELF\x02\x01\x01" + bytes(57),
}
SCRIPTED = {
    "doctype": (HTML, "text/html"),
    "capitals": (b"<HTML><BODY>", "text/html"),
    "white space": (b" \r\n\t <script>alert(1)</script>", "text/html"),
    "comment": (b"<!-- a note --> <!----><iframe src=x>", "text/html"),
    "open comment": (b"<!-- " + b"x" * START_BYTES, "text/html"),
    "slash": (b"<script/src=//example.org>", "text/html"),
    "UTF-8 mark": (codecs.BOM_UTF8 + HTML, "text/html"),
    "UTF-16": (HTML.decode().encode("utf-16"), "text/html"),
    "UTF-16 unmarked": (HTML.decode().encode("utf-16-be"), "text/html"),
    "UTF-32": (HTML.decode().encode("utf-32"), "text/html"),
    "XHTML": (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">', "text/html"),
    "SVG": (SVG, "image/svg+xml"),
    "SVG with all before it": (
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- <p> -->\n<?a b?><!DOCTYPE svg PUBLIC "-" "-" [<!ENTITY a "b">]>'
        + SVG,
        "image/svg+xml",
    ),
    "SVG with a prefix": (b'<s:svg xmlns:s="http://www.w3.org/2000/svg">', "image/svg+xml"),
    "SVG in UTF-16": (SVG.decode().encode("utf-16"), "image/svg+xml"),
}
SENTENCES = {
    "plain": b"Hello, this is some text.\nAnd more of it.\n",
    "a car": b"BMW makes cars in M\xc3\xbcnchen",
    "Latin 1": "BMW macht Autos in München".encode("latin-1"),
    "letters of an executable": b"MZ is how it begins",
    "letters of a sound": b"ID3 tags are ...",
    "letters of a picture": b"GIF89a is a format; II*, too",
    "compared": b"a < b and <c",
    "JSON": b'{"a": "<html>", "b": [1, 2, 3]}',
    "CSV": b"a,b,c\n1,2,3\n",
    "YAML": b"a: 1\nb:\n  - 2\n",
    "Markdown": b"<!-- no lint -->\n# Title\n\nSome *text*.\n",
    "a program": b"#!/usr/bin/env python3\nprint(1)\n",
    "UTF-8": "\ufeffGrüße aus Köln".encode(),
    "UTF-16": "Grüße aus Köln".encode("utf-16"),
    "UTF-16 unmarked": "Grüße aus Köln".encode("utf-16-le"),
    "coloured": b"\x1b[31mred\x1b[0m",
    "empty": b"",
    "white space": b" \n" * 100,
}
TEXTUAL = ("text/plain", "text/csv", "text/markdown", "application/json", "application/yaml", "text/javascript")
SHOWN_ONLY = """
text/plain text/plain;charset=utf-8 TEXT/CSV application/json application/x-ndjson a/b+json image/png image/x-foo
video/mp4 application/pdf application/zip application/x-foo nonsense
"""
WITH_TAGS = """
text/html text/markdown text/x-jinja application/xhtml+xml application/xml text/xml image/svg+xml application/rss+xml
application/x-httpd-php
"""
by_kind = pytest.mark.parametrize("media_type", BINARY)
by_script = pytest.mark.parametrize(("content", "shown"), SCRIPTED.values(), ids=SCRIPTED)
by_sentence = pytest.mark.parametrize("content", SENTENCES.values(), ids=SENTENCES)


@by_kind
def test_a_binary_content_is_known_by_its_first_bytes(media_type: str) -> None:
    assert sniffed(BINARY[media_type][:START_BYTES]) == media_type


@by_script
def test_what_a_browser_would_run_is_known_however_it_begins(content: bytes, shown: str) -> None:
    assert sniffed(content[:START_BYTES]) == shown


@by_sentence
def test_text_shows_nothing(content: bytes) -> None:
    assert sniffed(content) is None


def test_other_xml_is_xml() -> None:
    assert sniffed(b'<?xml version="1.0"?><note/>') == "text/xml"
    assert sniffed(b'<?xml version="1.0"?>' + b" " * START_BYTES) == "text/xml"


def test_this_interpreter_is_an_executable() -> None:
    with Path(sys.executable).open("rb") as file:
        assert sniffed(file.read(START_BYTES)) not in (None, "application/octet-stream")


@by_kind
def test_the_truth_is_no_contradiction(media_type: str) -> None:
    content = BINARY[media_type][:START_BYTES]
    assert contradiction(media_type, content) is None
    assert contradiction(f" {media_type.upper()} ; name=x", content) is None


@pytest.mark.parametrize(
    ("declared", "actual"),
    [
        ("image/jpg", "image/jpeg"),
        ("image/apng", "image/png"),
        ("application/x-gzip", "application/gzip"),
        ("application/x-zip-compressed", "application/zip"),
        ("application/zip", DOCX),
        (DOCX, "application/zip"),
        (XLSX, DOCX),
        ("application/java-archive", "application/zip"),
        ("application/x-foo+zip", ODT),
        ("audio/mp4", "video/mp4"),
        ("video/quicktime", "video/mp4"),
        ("application/x-foo", "image/png"),
        ("image/tiff", "application/dicom"),
        ("text/csv", "application/gzip"),
        ("application/x-tar", "application/gzip"),
    ],
)
def test_names_of_one_family_agree_and_what_has_no_signature_may_be_anything_binary(declared: str, actual: str) -> None:
    assert contradiction(declared, BINARY[actual][:START_BYTES]) is None


@pytest.mark.parametrize("declared", ["", "application/octet-stream", "Application/Octet-Stream; x=y", "*/*"])
@pytest.mark.parametrize("content", [HTML, SVG, BINARY["image/png"], b"text", b""])
def test_what_claims_nothing_is_never_untrue(declared: str, content: bytes) -> None:
    assert contradiction(declared, content) is None


@pytest.mark.parametrize("declared", ["text/plain", "text/html", "application/json", "image/svg+xml", "text/xml"])
@pytest.mark.parametrize(
    "actual", ["image/png", "application/pdf", "application/zip", "application/x-executable", DOCX]
)
def test_a_binary_content_is_no_text(declared: str, actual: str) -> None:
    assert contradiction(declared, BINARY[actual][:START_BYTES]) == actual


@pytest.mark.parametrize(
    "declared", [*(kind for kind in BINARY if kind not in ("image/tiff", "image/bmp")), "image/jpg"]
)
@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"no picture at all", "text/plain"),
        ("Grüße".encode()[:-2], "text/plain"),
        ("Grüße".encode()[:3], "text/plain"),
        ("Grüße".encode("utf-16"), "text/plain"),
        (b"x", "text/plain"),
        (b"\xff", "application/octet-stream"),
        (b"\0\1\2\3" * 50, "application/octet-stream"),
        (b"text, and \0", "application/octet-stream"),
        (b"BM" + bytes(60), "image/bmp"),
        (b'<?xml version="1.0"?><note/>', "text/xml"),
        (HTML, "text/html"),
        (SVG, "image/svg+xml"),
    ],
)
def test_a_content_without_the_signature_of_its_type_is_told_for_what_it_is(
    declared: str, content: bytes, shown: str
) -> None:
    if declared != "application/x-executable" or shown in ("text/html", "image/svg+xml"):
        assert contradiction(declared, content) == shown


def test_one_picture_is_not_another() -> None:
    kinds = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "application/dicom"]
    for declared in kinds:
        for actual in kinds:
            found = contradiction(declared, BINARY[actual][:START_BYTES])
            assert found == (None if declared == actual else actual)


@pytest.mark.parametrize("declared", SHOWN_ONLY.split())
@by_script
def test_what_a_browser_would_run_passes_for_nothing_that_is_only_shown(
    declared: str, content: bytes, shown: str
) -> None:
    assert contradiction(declared, content[:START_BYTES]) == shown


@pytest.mark.parametrize("declared", WITH_TAGS.split())
@by_script
def test_what_may_begin_with_a_tag_may(declared: str, content: bytes, shown: str) -> None:
    assert contradiction(declared, content[:START_BYTES]) is None


@pytest.mark.parametrize("declared", [*TEXTUAL, "image/svg+xml", "text/html", "application/x-foo"])
@by_sentence
def test_kinds_of_text_do_not_contradict_one_another(declared: str, content: bytes) -> None:
    assert contradiction(declared, content) is None


@pytest.mark.parametrize(
    ("declared", "content"),
    [
        ("application/pdf", b"\r\nsome junk\n%PDF-1.7\n"),
        ("application/pdf", b"x" * 1024 + b"%PDF-1.7\n"),
        ("application/dicom", dicom("no_meta.dcm")),
        ("application/dicom", dicom("CT_small.dcm")[132:]),
        ("application/dicom", b"\n" + dicom("CT_small.dcm")[132:]),
        ("application/dicom", dicom("ExplVR_BigEnd.dcm")),
        ("application/zip", archive()),
        (DOCX, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)),
        ("application/vnd.oasis.opendocument.text-flat-xml", b'<?xml version="1.0"?><office:document>'),
        (f"{OOXML}wordprocessingml.document.main+xml", b'<?xml version="1.0"?><w:document>'),
        ("video/mp4", b"\0\0\0\x18styp" + bytes(50)),
        ("video/mp4", b"\0\0\0\x18ftypdash" + bytes(50)),
        ("image/png", b""),
    ],
)
def test_what_readers_let_pass_is_let_pass(declared: str, content: bytes) -> None:
    assert contradiction(declared, content[:START_BYTES]) is None


@pytest.mark.parametrize("piece", [b"<!--", b"<?", b"<!doctype x [", b"]", b"<!---->", b"<!doctype x[ ]>", b" ", b"<"])
def test_no_beginning_takes_long_to_look_at(piece: bytes) -> None:
    assert sniffed(piece * 50_000) in (None, "text/html")


MEDIA_TYPES = st.sampled_from([*BINARY, *TEXTUAL, "text/html", "image/svg+xml"]) | st.text(max_size=30)
CONTENTS = st.binary(max_size=300) | st.builds(
    lambda start, end: start[: end[0]] + end[1],
    st.sampled_from([*BINARY.values(), HTML, SVG]),
    st.tuples(st.integers(0, 300), st.binary(max_size=50)),
)


@given(declared=MEDIA_TYPES, content=CONTENTS)
@example(declared="image/png", content=b"\x89")
def test_no_bytes_and_no_name_raise(declared: str, content: bytes) -> None:
    shown, found = sniffed(content), contradiction(declared, content)
    for media_type in (shown, found):
        assert media_type is None or ("/" in media_type and media_type == media_type.lower())
    assert contradiction("application/octet-stream", content) is None
    assert found is None or found != declared
    pixels(content)


@given(text=st.text(max_size=200), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_any_text_without_a_tag_is_plain_text(text: str, encoding: str) -> None:
    content = text.replace("<", "").replace("%PDF", "").replace("\0", "").encode(encoding)
    shown = contradiction("text/plain", content)
    assert shown is None or not set(text).isdisjoint(map(chr, range(32)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_picture_says_its_size_in_its_first_bytes(kind: str) -> None:
    assert pixels(picture(kind, (300, 200))[:START_BYTES]) == 300 * 200
    assert pixels(picture(kind)[:20]) in (None, 300 * 200)


def test_every_kind_of_webp_says_its_size() -> None:
    frames = [Image.new("RGB", (300, 200), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="WEBP", save_all=True, append_images=frames[1:])
    contents = [picture("WEBP"), picture("WEBP", lossless=True), buffer.getvalue()]
    assert [content[12:16] for content in contents] == [b"VP8 ", b"VP8L", b"VP8X"]
    assert {pixels(content[:30]) for content in contents} == {300 * 200}


def test_a_progressive_jpeg_with_notes_says_its_size_and_not_its_thumbnails() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 100
    thumbnail = picture("JPEG", (16, 16))
    content = picture("JPEG", progressive=True, exif=exif, comment=thumbnail)
    assert pixels(content) == 300 * 200
    assert thumbnail in content
    assert pixels(content[: content.index(thumbnail) + len(thumbnail)]) is None
    assert pixels(content[:2] + b"\xff" * 7 + content[2:]) == 300 * 200
    assert pixels(content[:20] + b"junk" + content[20:]) == 300 * 200


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 50_000, 50_000),
        b"GIF89a" + struct.pack("<HH", 50_000, 50_000) + b"\0\0\0," + bytes(9),
        b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6) + b"!\xf9\4\0\0\0\0\0,"
        + struct.pack("<4H", 0, 0, 50_000, 50_000),
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (49_999).to_bytes(3, "little") * 2,
        b"\xff\xd8\xff\xfe\0\4ab\xff\xc2\0\x0b\x08" + struct.pack(">HH", 50_000, 50_000),
    ],
    ids=["PNG", "GIF", "GIF by its frame", "WebP", "JPEG"],
)  # fmt: skip
def test_a_picture_that_would_fill_the_memory_of_a_browser_is_seen_by_its_header(content: bytes) -> None:
    assert pixels(content) == 50_000 * 50_000


@pytest.mark.parametrize("content", [b"", b"\xff", b"text", BINARY["image/bmp"], SVG, b"GIF89a", b"\xff\xd8\xff" * 50])
def test_what_says_no_size_has_none(content: bytes) -> None:
    assert pixels(content) is None
