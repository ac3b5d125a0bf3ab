"""What the first bytes of a content show it to be, and whether what it is declared to be can be true.

Data and pure functions: what becomes of a lie is for the caller to say. Refusing what is sound is worse than missing a
lie, unless a browser would run what claims to be only shown: HTML and SVG.
"""

from __future__ import annotations

import codecs
import re

import filetype  # type: ignore[import-untyped]

#: As many bytes are worth reading. Fewer are taken for all there are: of a longer content give at least so many.
START_BYTES = 4096

#: What says nothing, so that nothing contradicts it: most are the unknown types of WHATWG MIME Sniffing, section 7.
_NO_CLAIM = frozenset({"", "*/*", "application/octet-stream", "application/unknown", "binary/octet-stream"})
_NOTHING_SHOWN = ("text/plain", "application/octet-stream")
#: By family: its names, and how all of it begins, with what readers let pass: junk before a PDF, DICOM without its
#: preamble (PS3.10, 7.1), an MP4 without its first box, an encrypted Office document, which is in a compound file.
_SIGNED = {
    "image/png": (r"image/(x-|a)?png", rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": (r"image/p?jpe?g", rb"\xff\xd8\xff"),
    "image/gif": (r"image/gif", rb"GIF8[79]a"),
    "image/webp": (r"image/webp", rb"RIFF....WEBP"),
    "application/pdf": (r"application/(x-)?pdf", rb".{0,1024}?%PDF-"),
    "application/gzip": (r"application/(x-)?gzip", rb"\x1f\x8b"),
    "application/dicom": (r"application/dicom", rb".{128}DICM|\s*([\x02\x08]\0|\0[\x02\x08])"),
    "video/mp4": (
        r"(video|audio)/(mp4|x-m4[av])|image/(avif|hei[cf])",
        rb".{4}(ftyp|styp|moov|moof|mdat|free|skip|wide|sidx|emsg|prft|uuid)",
    ),
    "application/zip": (
        r"application/((x-)?zip(-compressed)?|vnd\.(openxmlformats-|oasis\.opendocument\.)(?!.*xml$).*)|.*\+zip",
        rb"PK(\x03\x04|\x05\x06|\x07\x08)|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    ),
}
_TEXTUAL = re.compile(
    r"text/.*|.*\+(json|xml|yaml)|application/(x-)?((nd)?json(-seq)?|jsonl(ines)?|xml(-dtd)?|yaml|toml"
    r"|(java|ecma|type)script|sql|graphql|(c|ba)?sh|(httpd-)?php|(la)?tex|rtf)"
)
#: Text that has no business to begin with a tag. Markdown, templates and all kinds of XML do.
_TAGLESS = re.compile(r"text/(plain|csv|tab-separated-values)|.*[/+](x-)?(nd)?json.*")
#: As what text may come compressed and still be declared as text: :func:`mimetypes.guess_type` does so of names.
_ENCODINGS = frozenset({"application/gzip", "application/x-bzip2", "application/x-xz", "application/zstd"})

_SCRIPTED = frozenset({"text/html", "image/svg+xml"})
_PROLOGUE = re.compile(
    rb"(?:\s|<!--.*?-->|<\?.*?\?>|<!doctype(?!\s+html\b)[^\[>]*+(?:\[.*?\]\s*+)?>)*+", re.DOTALL | re.IGNORECASE
)
#: The tags that make a browser take text for HTML: WHATWG MIME Sniffing, section 7.1, table of step 1; and SVG's root.
_ROOT = re.compile(
    rb"<(?:(?P<svg>(?:[\w.-]+:)?svg)|!doctype\s+html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p"
    rb"|!--)(?=[\s/>])",
    re.IGNORECASE,
)
#: A "binary data byte" of WHATWG MIME Sniffing, section 3: no text of one byte a character has any.
_BINARY = frozenset({*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)})
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def sniffed(start: bytes) -> str | None:
    """The media type that the first bytes of a content show, in lower case; None where they show none, as plain text.

    Binary formats are told by the library ``filetype``, but none from bytes that can be text: "BM", "MZ" and "ID3" are
    also how a sentence begins. Only PDF is textual and known by its signature.
    """
    markup = _markup(start)
    if markup in _SCRIPTED:
        return markup
    found = "application/dicom" if start[128:132] == b"DICM" else filetype.guess_mime(start) or ""
    if found in _NO_CLAIM or (_can_be_text(start) and found != "application/pdf"):
        return markup
    return str(found)


def contradiction(declared: str, start: bytes) -> str | None:
    """The media type of a content whose declared one its first bytes, :data:`START_BYTES` of them, show to be untrue.

    None where it can be true: also of an empty content, and of what claims nothing (``application/octet-stream``).
    """
    claimed = declared.partition(";")[0].strip().lower()
    if claimed in _NO_CLAIM or not start:
        return None
    shown = sniffed(start)
    if _TEXTUAL.fullmatch(claimed):
        runs = shown in _SCRIPTED and _TAGLESS.fullmatch(claimed)
        return shown if runs or _is_binary(shown) else None
    if shown in _SCRIPTED:
        return shown
    family = _family(claimed)
    if family is None or family == _family(shown or "") or re.match(_SIGNED[family][1], start, re.DOTALL):
        return None
    return shown or ("text/plain" if _decodes(start) else "application/octet-stream")


def plainly_other(declared: str, start: bytes) -> str | None:
    """As :func:`contradiction`, where the bytes show what they are, and not where they only lack a signature."""
    shown = contradiction(declared, start)
    return None if shown in _NOTHING_SHOWN else shown


def _family(media_type: str) -> str | None:
    return next((family for family, (names, _) in _SIGNED.items() if re.fullmatch(names, media_type)), None)


def _is_binary(shown: str | None) -> bool:
    return shown is not None and shown not in _ENCODINGS and not _TEXTUAL.fullmatch(shown)


def _markup(start: bytes) -> str | None:
    """HTML, SVG or XML, in any encoding of ASCII, behind white space, comments and declarations. An open comment is
    HTML, as it is for WHATWG: what comes behind it is not to be seen.
    """
    text = start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")
    prologue = _PROLOGUE.match(text)
    root = _ROOT.match(text, prologue.end() if prologue else 0)
    if root:
        return "image/svg+xml" if root["svg"] else "text/html"
    return "text/xml" if text.lstrip().startswith(b"<?xml") else None


def _can_be_text(start: bytes) -> bool:
    return start.startswith(_BOMS) or _BINARY.isdisjoint(start)


def _decodes(start: bytes) -> bool:
    """Whether it is text without NUL, in UTF-16 if it says so and else in UTF-8, maybe cut within a character."""
    encoding = "utf-16" if start.startswith(_BOMS[1:]) else "utf-8"
    try:
        return "\0" not in codecs.getincrementaldecoder(encoding)().decode(start)
    except UnicodeDecodeError:
        return False
